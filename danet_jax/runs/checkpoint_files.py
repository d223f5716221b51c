"""The files of a checkpoint, and what makes a folder one."""

import os
import re
from pathlib import Path

from danet_jax.base import shapes
from danet_jax.base.errors import UserError
from danet_jax.base.json_files import read_json

# The first release named a checkpoint so that it set aside while it wrote another of its step.
REPLACED = "replaced-"
SCORE = "score"
CHECKSUM = "checksum"
DIGEST = "digest"
_METADATA = "_CHECKPOINT_METADATA"
# Nanoseconds since 1970.
_TIME = shapes.optional(shapes.whole(0, 2**62))
# Orbax reads these files of all steps when it begins.
READ_AT_ONCE = {
    "metrics/metrics": shapes.fields({SCORE: shapes.number}, {CHECKSUM: shapes.whole()}),
    _METADATA: shapes.fields(
        {},
        {
            "item_handlers": shapes.map_of(shapes.text),
            "metrics": shapes.map_of(shapes.any_number),
            "performance_metrics": shapes.map_of(shapes.any_number),
            "init_timestamp_nsecs": _TIME,
            "commit_timestamp_nsecs": _TIME,
            "custom_metadata": shapes.map_of(shapes.anything),
        },
    ),
}
# The JSON of a `Record`.
RECORD = shapes.fields(
    {
        "stream": shapes.fields(
            {},
            {
                "next_batch": shapes.whole(),
                "fingerprint": shapes.list_of(shapes.list_of(shapes.number)),
            },
        ),
        "config": shapes.map_of(shapes.anything),
    },
    {
        "pending": shapes.list_of(shapes.map_of(shapes.number)),
        DIGEST: shapes.text,
        # The first release wrote its best score here.
        "best": shapes.optional(shapes.fields({"step": shapes.whole(), "score": shapes.number})),
    },
)

# What Orbax calls the folder of a checkpoint, or a part of one, that it is still writing.
_UNFINISHED = r"\.orbax-checkpoint-tmp(-\d+)?"
_UNFINISHED_STEP = re.compile(rf"\d+{_UNFINISHED}")
# The folders and files that Orbax writes into a checkpoint, by their paths in it.
_FOLDERS = re.compile(
    rf"(record|metrics)({_UNFINISHED})?"
    rf"|state({_UNFINISHED})?(/(array_metadatas|(ocdbt\.process_\d+/)?d|ocdbt\.process_\d+))?"
)
_PART = rf"({_UNFINISHED})?/"
_FILES = re.compile(
    rf"({_METADATA}|((state|record|metrics){_PART})?commit_success\.txt"
    rf"|record{_PART}metadata|metrics{_PART}metrics"
    rf"|state{_PART}(_METADATA|_sharding|array_metadatas/process_\d+"
    r"|(ocdbt\.process_\d+/)?(manifest\.ocdbt|d/[0-9a-f]{32})))(\.__lock)?"
)
# File managers and file systems write these wherever they look.
_LEFT_BY_SYSTEMS = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|\.nfs.*|\.tmp-danet-.*")


def is_unfinished(name: str) -> bool:
    """Whether Orbax calls a checkpoint that it is still writing so."""
    return bool(_UNFINISHED_STEP.fullmatch(name))


def foreign_files(place: Path) -> list[str]:
    """Returns what a checkpoint's folder holds that no training wrote there."""
    found = []
    for folder, names, files in os.walk(place):
        for name in names + files:
            path = Path(folder, name)
            inside = path.relative_to(place).as_posix()
            known = _FOLDERS if name in names and not path.is_symlink() else _FILES
            if not known.fullmatch(inside) and not _LEFT_BY_SYSTEMS.fullmatch(name):
                found.append(inside)
    return sorted(found)


def is_checkpoint(place: Path) -> bool:
    """Whether a folder holds all the parts that a checkpoint had from the first release on."""
    if place.is_symlink() or not all((place / part).is_dir() for part in ("state", "record")):
        return False
    try:
        read_json(place / _METADATA, READ_AT_ONCE[_METADATA], error=UserError, advice="")
        read_json(place / "record/metadata", RECORD, error=UserError, advice="")
    except (UserError, OSError):
        return False
    return True


def trained_images(place: Path) -> int | None:
    """Returns how many images a checkpoint was trained on; None where none is noted.

    Weights that were imported were trained elsewhere.
    """
    record = read_json(place / "record/metadata", RECORD, error=UserError, advice="")
    number = record["stream"].get("num_examples")
    return number if isinstance(number, int) and number > 0 else None
