"""What a run's training and its evaluations noted in its workdir."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from danet_jax.base import fingerprints, shapes
from danet_jax.base.errors import UserError
from danet_jax.base.json_files import is_there, parse_json, read_bytes
from danet_jax.base.locks import lock
from danet_jax.base.shapes import Wrong
from danet_jax.base.wording import counted, listed
from danet_jax.console.terminal import say
from danet_jax.runs.folder import (
    EVALUATIONS_FILE,
    LOCK_FILE,
    RUN_FILES,
    read_classes,
    read_file,
    read_weights,
    say_unlocked,
    write_file,
)

METRICS_FILE = "metrics.jsonl"
# A million records, of which a run writes one for each `config.train.log_every` steps.
_LARGEST_METRICS = 512 << 20
# Losses may be no numbers any more.
_VALUES = shapes.map_of(shapes.optional(shapes.any_number))
_STEP = shapes.fields({"step": shapes.whole()})
# Two evaluations that agree in these fields can be compared: they scored the same checkpoint on the
# same examples. Earlier versions noted neither pixels nor fingerprint.
COMPARABLE = ("split", "images", "step", "class_pixels", "fingerprint")
# Where two evaluations agree in these fields, the later one counts.
EVALUATION_KEY = (*COMPARABLE, "settings", "device")


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Returns the records of metrics.jsonl, oldest first.

    A last line that a crash has cut is left out, and so is, with a warning, any other line that is
    no record: curves need not hold every step.
    """
    path = workdir / METRICS_FILE
    records, others = [], []
    for number, line in enumerate(metrics_lines(path), start=1):
        record = parse_metrics(line)
        if record is not None:
            records.append(record)
        elif line.endswith(b"\n"):
            others.append(number)
    if others:
        say(
            f"warning: {path}: {counted(len(others), 'line')} that hold no record of a step are "
            f"left out of the curves (line {listed(others)})"
        )
    return records


def metrics_lines(path: Path) -> list[bytes]:
    """Returns the lines of a metrics.jsonl with their ends, none where there is no such file."""
    if not is_there(path):
        return []
    return read_bytes(path, error=UserError, largest=_LARGEST_METRICS).splitlines(keepends=True)


def parse_metrics(line: bytes) -> dict[str, Any] | None:
    """Returns the record that a line of metrics.jsonl holds, None where it holds none."""
    try:
        record = parse_json(line)
        _VALUES(record, "")
        _STEP(record, "")
    except Wrong:
        return None
    return record


def has_records(workdir: Path) -> bool:
    """Whether a training noted anything in a workdir."""
    return any(map(parse_metrics, metrics_lines(workdir / METRICS_FILE)))


def last_step(workdir: Path) -> int:
    """Returns the step of the last record of a training, 0 where there is none."""
    records = map(parse_metrics, metrics_lines(workdir / METRICS_FILE))
    return max((record["step"] for record in records if record), default=0)


def has_evaluations(workdir: Path) -> bool:
    """Whether a training was evaluated, which comes after its first checkpoint."""
    records = map(parse_metrics, metrics_lines(workdir / METRICS_FILE))
    return is_there(workdir / EVALUATIONS_FILE) or any(r and "mean_iou" in r for r in records)


def check_readable(workdir: Path) -> None:
    """Raises a UserError for a file of a run that its report would fail on, hours later."""
    names, _ = read_classes(workdir)
    read_weights(workdir)
    metrics_lines(workdir / METRICS_FILE)
    for position, record in enumerate(read_evaluations(workdir)):
        if len(record["iou"]) != len(names):
            raise UserError(
                f"{workdir / EVALUATIONS_FILE} cannot be read: evaluations[{position}].iou has "
                f"{len(record['iou'])} entries, but the run has {len(names)} classes. "
                f"{RUN_FILES[EVALUATIONS_FILE].advice}"
            )


def read_evaluations(workdir: Path) -> list[dict[str, Any]]:
    """Returns what `add_evaluation` noted, oldest first."""
    if not is_there(workdir / EVALUATIONS_FILE):
        return []
    return read_file(workdir, EVALUATIONS_FILE)["evaluations"]


def agree(one: Mapping[str, Any], other: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether two notes of evaluations are equal in these fields, as far as both have them."""
    known = [name for name in names if name in one and name in other]
    return all(
        fingerprints.agree(one[name], other[name])
        if name == "fingerprint"
        else one[name] == other[name]
        for name in known
    )


def add_evaluation(workdir: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Notes what an evaluation found, and returns all notes, oldest first.

    One of the same EVALUATION_KEY replaces the former one.
    """
    path = workdir / EVALUATIONS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    # Through JSON, as the others were.
    record = json.loads(json.dumps(record))
    with open(path.parent / LOCK_FILE, "a") as file:
        # Another evaluation may add its own meanwhile.
        if unlocked := lock(file, wait=True):
            say_unlocked(workdir, unlocked)
        # A person's own fields beside the list stay.
        content = read_file(workdir, EVALUATIONS_FILE) if is_there(path) else {}
        records = [
            old for old in content.get("evaluations", []) if not agree(old, record, EVALUATION_KEY)
        ]
        records.append(record)
        write_file(path, content | {"evaluations": records})
    return records
