"""The counts and warnings of a survey, in a file beside the prepared data set."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from danet_jax.base import shapes
from danet_jax.base.errors import DataError
from danet_jax.base.json_files import is_there, read_json
from danet_jax.base.texts import one_line
from danet_jax.input_pipeline.checking import diagnosis
from danet_jax.input_pipeline.checking.survey import Survey

FILE = "survey.json"
ADVICE = "Move it away: the data set is then counted again when it is shown."
_COUNTS = shapes.list_of(shapes.whole(), most=255)
_SHAPE = shapes.fields(
    {
        "splits": shapes.map_of(
            shapes.same_length(
                shapes.fields(
                    {
                        "examples": shapes.whole(),
                        "class_pixels": _COUNTS,
                        "images_with_class": _COUNTS,
                        "ignored_pixels": shapes.whole(),
                        "sizes": shapes.map_of(
                            shapes.whole(1),
                            keys=shapes.matching("[0-9]{1,9}x[0-9]{1,9}", "WIDTHxHEIGHT"),
                        ),
                    }
                ),
                "class_pixels",
                "images_with_class",
            )
        ),
        "warnings": shapes.list_of(shapes.matching(r"[\s\S]+", "a text that is not empty")),
    }
)


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """The counts of one split.

    Pixels and images are counted by class id. `sizes` counts images by "WxH", the most frequent
    first.
    """

    examples: int
    class_pixels: np.ndarray
    images_with_class: np.ndarray
    ignored_pixels: int
    sizes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Summary:
    """The content of the file that `write` wrote."""

    splits: dict[str, SplitSummary]
    warnings: list[str]


def read(folder: Path) -> Summary | None:
    """Returns what `write` wrote into a folder; None if there is no such file."""
    file = folder / FILE
    if not is_there(file):
        return None
    content = read_json(file, _SHAPE, error=DataError, advice=ADVICE)
    splits = {}
    for name, values in content["splits"].items():
        counts = {field.name: values[field.name] for field in dataclasses.fields(SplitSummary)}
        for field in ("class_pixels", "images_with_class"):
            counts[field] = np.array(values[field], np.int64)
        if sum(values["sizes"].values()) > values["examples"]:
            raise DataError(
                f"{file} cannot be read: splits.{one_line(name)}.sizes has more images than "
                f"{values['examples']} examples. {ADVICE}"
            )
        splits[name] = SplitSummary(**counts)
    return Summary(splits, content["warnings"])


def write(survey: Survey, folder: Path) -> None:
    """Writes the counts and warnings of a survey into the folder of a prepared data set."""
    content = {
        "splits": {
            name: {
                "examples": split.examples,
                "class_pixels": split.class_pixels.tolist(),
                "images_with_class": split.images_with_class.tolist(),
                "ignored_pixels": split.ignored_pixels,
                "sizes": dict(split.sizes.most_common()),
            }
            for name, split in survey.splits.items()
        },
        "warnings": [
            finding.text for finding in diagnosis.diagnose(survey) if not finding.is_error
        ],
    }
    (folder / FILE).write_text(json.dumps(content, indent=1))
