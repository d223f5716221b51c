"""The shapes of the JSON files in a prepared data set, ours and those of TFDS."""

import contextlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danet_jax.base import shapes
from danet_jax.base.errors import DataError
from danet_jax.base.json_files import is_there, read_json

ADVICE = (
    "Repair it, or restore it from a copy; or prepare the data set again under another "
    "config.data.data_dir."
)
# TFDS writes counts as texts of digits.
_DIGITS = shapes.matching("[0-9]{1,15}", 'a count as text, "8"')
# TFDS formats it with these names alone.
_TEMPLATE = shapes.matching(
    r"([^{}/]|\{(DATASET|SPLIT|FILEFORMAT|SHARD_INDEX|NUM_SHARDS|SHARD_X_OF_Y)\})+",
    'a template of file names, "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"',
)

LABELS = shapes.fields(
    {
        "names": shapes.list_of(shapes.text),
        "colors": shapes.list_of(shapes.list_of(shapes.whole(0, 255), least=3, most=3)),
        "raw_ids": shapes.list_of(shapes.whole(0, 2**24)),
    }
)
_DATASET_INFO = shapes.fields(
    {"name": shapes.text, "version": shapes.text},
    {
        "fileFormat": shapes.text,
        "splits": shapes.list_of(
            shapes.fields(
                {"name": shapes.text, "shardLengths": shapes.list_of(_DIGITS)},
                {"numBytes": _DIGITS, "filepathTemplate": _TEMPLATE},
            )
        ),
    },
)
_CLASS = shapes.matching(
    r"tensorflow_datasets\.core\.features(\.\w+)+", "a class of tensorflow_datasets.core.features"
)


def _classes_of_tfds(value: Any, path: str) -> None:
    """Fits JSON in which TFDS finds no class but its own: it imports those that are named."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            # TFDS reads names in both spellings, and "type" in the form of its first versions.
            if key.replace("_", "").casefold() in ("pythonclassname", "type"):
                _CLASS(item, f"{path}.{key}")
            _classes_of_tfds(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _classes_of_tfds(item, f"{path}[{index}]")


def _features(value: Any, path: str) -> None:
    _classes_of_tfds(value, path)
    _FEATURES(value, path)


_FEATURES = shapes.fields(
    {
        "pythonClassName": _CLASS,
        "featuresDict": shapes.fields(
            {"features": shapes.map_of(shapes.fields({"pythonClassName": _CLASS}))}
        ),
    }
)
_OF_TFDS = {"dataset_info.json": _DATASET_INFO, "features.json": _features}


def check_before_tfds(folder: Path) -> None:
    """Raises a DataError for a file on which TFDS would fail, or for which it would wait."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    for path in folder.glob("*.array_record*"):
        # Opening a pipe would wait for somebody who writes to it.
        with contextlib.suppress(OSError):
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise DataError(f"{path} is a pipe or a device. {ADVICE}")
    for name, shape in _OF_TFDS.items():
        if not is_there(folder / name):
            raise DataError(f"{folder / name} is missing. {ADVICE}")
        read_json(folder / name, shape, error=DataError, advice=ADVICE)
