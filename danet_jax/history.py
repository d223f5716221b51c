"""What a run's training and its evaluations noted in its workdir."""

import contextlib
import json
from pathlib import Path
from typing import Any

from danet_base.locks import lock
from danet_jax.errors import UserError
from danet_jax.experiment import LOCK_FILE, read_json, say_unlocked, write_json

METRICS_FILE = "metrics.jsonl"
EVALUATIONS_FILE = "report/evaluations.json"
# Of two evaluations that agree in these, the later counts.
EVALUATION_KEY = ("split", "images", "step", "settings", "device")


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Returns the records of metrics.jsonl, oldest first; a line cut by a crash is left out."""
    records = []
    path = workdir / METRICS_FILE
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def read_evaluations(workdir: Path) -> list[dict[str, Any]]:
    """Returns what `add_evaluation` noted, oldest first."""
    path = workdir / EVALUATIONS_FILE
    if not path.is_file():
        return []
    try:
        found = read_json(workdir, EVALUATIONS_FILE).get("evaluations")
        if not isinstance(found, list) or not all(map(_is_evaluation, found)):
            raise UserError(f"{path} cannot be read: it holds no evaluations")
    except UserError as error:
        raise UserError(
            f"{error}. Move it away: the next report then starts to compare anew."
        ) from None
    return found


def _is_evaluation(value: Any) -> bool:
    fields = {*EVALUATION_KEY, "iou", "metrics", "seconds_per_image"}
    return isinstance(value, dict) and value.keys() >= fields


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
        records = [
            old
            for old in read_evaluations(workdir)
            if any(old[name] != record[name] for name in EVALUATION_KEY)
        ]
        records.append(record)
        write_json(path, {"evaluations": records})
    return records
