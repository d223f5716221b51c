"""Images and labels as numpy batches; knows nothing of the network that they are for."""

import importlib
from typing import TYPE_CHECKING, Any

from danet_base.errors import DataError

if TYPE_CHECKING:
    from input_pipeline.datasets import Split, doubts_on_labels, labels_of, open_split, survey_of
    from input_pipeline.image_files import find_images
    from input_pipeline.images import convert_image, read_image
    from input_pipeline.labels import IGNORE_LABEL, Labels
    from input_pipeline.pipeline import TrainingStream, evaluation_batches
    from input_pipeline.preparation import prepare
    from input_pipeline.sizes import sizes_of_files

__all__ = [
    "IGNORE_LABEL",
    "DataError",
    "Labels",
    "Split",
    "TrainingStream",
    "convert_image",
    "doubts_on_labels",
    "evaluation_batches",
    "find_images",
    "labels_of",
    "open_split",
    "prepare",
    "read_image",
    "sizes_of_files",
    "survey_of",
]

_MODULES = {
    "IGNORE_LABEL": "labels",
    "Labels": "labels",
    "Split": "datasets",
    "TrainingStream": "pipeline",
    "convert_image": "images",
    "doubts_on_labels": "datasets",
    "evaluation_batches": "pipeline",
    "find_images": "image_files",
    "labels_of": "datasets",
    "open_split": "datasets",
    "prepare": "preparation",
    "read_image": "images",
    "sizes_of_files": "sizes",
    "survey_of": "datasets",
}


def __getattr__(name: str) -> Any:
    # Imported when used: TFDS and Grain take seconds, and not every command needs them.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
