"""The JSON files of a run's folder: what each looks like, and what to do where it does not."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from danet_base import shapes
from danet_base.errors import UserError
from danet_base.files import check_local, replace_file
from danet_base.json_files import is_there, read_json

CONFIG_FILE = "config.json"
CLASSES_FILE = "classes.json"
WEIGHTS_FILE = "weights.json"
EVALUATIONS_FILE = "report/evaluations.json"
MOST_CLASSES = 255

_EVALUATION = shapes.fields(
    {
        "split": shapes.text,
        "images": shapes.whole(),
        "step": shapes.optional(shapes.whole()),
        "settings": shapes.fields(
            {
                "mode": shapes.text,
                "crop_size": shapes.whole(),
                "base_size": shapes.whole(),
                "scales": shapes.list_of(shapes.number, least=1),
                "flip": shapes.truth,
                "merge": shapes.text,
            }
        ),
        "device": shapes.text,
        "iou": shapes.list_of(shapes.optional(shapes.number), least=1, most=MOST_CLASSES),
        "metrics": shapes.fields({"mean_iou": shapes.optional(shapes.number)}),
        "seconds_per_image": shapes.optional(shapes.number),
    }
)
_COLOR = shapes.list_of(shapes.whole(0, 255), least=3, most=3)


@dataclasses.dataclass(frozen=True)
class RunFile:
    """One kind of file: its shape, and where what it held is found again."""

    shape: shapes.Shape
    advice: str


RUN_FILES = {
    # Its fields are checked beside those of configs/common.py, by `configuration.restore`.
    CONFIG_FILE: RunFile(
        shapes.map_of(shapes.anything),
        "Mend it, or take it from a copy: each checkpoint holds the run's config, too, as "
        '"config" in checkpoints/STEP/record/metadata.',
    ),
    CLASSES_FILE: RunFile(
        shapes.same_length(
            shapes.fields(
                {
                    "names": shapes.list_of(shapes.text, least=1, most=MOST_CLASSES),
                    "colors": shapes.list_of(_COLOR),
                }
            ),
            "names",
            "colors",
        ),
        "Mend it, or take it from a copy: the data set's metadata.json holds the same names and "
        "colors.",
    ),
    WEIGHTS_FILE: RunFile(
        shapes.fields(
            {
                "file": shapes.text,
                "sha256": shapes.text,
                "part": shapes.one_of("network", "backbone"),
                "names": shapes.text,
                "arrays": shapes.whole(),
                "reinitialized": shapes.list_of(shapes.text),
                "skipped": shapes.list_of(shapes.text),
            }
        ),
        "Mend it, or take it from a copy: it says where the run's first weights came from.",
    ),
    EVALUATIONS_FILE: RunFile(
        shapes.fields({"evaluations": shapes.list_of(_EVALUATION)}),
        "Mend it, or move it away: the next report then starts to compare anew.",
    ),
}


def read(workdir: Path, name: str) -> Any:
    """Returns what a file of RUN_FILES holds; a UserError where it is not there or torn."""
    path = workdir / name
    if not is_there(path):
        check_local(workdir, name="workdir")
        raise UserError(f"{workdir} is not the workdir of a run: it has no {name}.")
    kind = RUN_FILES[name]
    return read_json(path, kind.shape, error=UserError, advice=kind.advice)


def write(path: Path, value: Any) -> None:
    """Writes a JSON file that is whole or as it was before."""
    replace_file(path, data=(json.dumps(value, indent=2) + "\n").encode())
