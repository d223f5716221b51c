"""Images and labels as numpy batches; knows nothing of the network that they are for."""

import importlib
from typing import TYPE_CHECKING, Any

from danet_jax.base.errors import DataError

if TYPE_CHECKING:
    from danet_jax.input_pipeline.examples import OWN, Examples, check_examples
    from danet_jax.input_pipeline.images.conversion import convert_image, read_image
    from danet_jax.input_pipeline.images.files import find_images
    from danet_jax.input_pipeline.images.sizes import sizes_of_files
    from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels
    from danet_jax.input_pipeline.pipeline import TrainingStream, evaluation_batches
    from danet_jax.input_pipeline.storage.datasets import (
        Split,
        labels_of,
        open_split,
    )
    from danet_jax.input_pipeline.storage.preparation import prepare
    from danet_jax.input_pipeline.storage.surveys import doubts_on_labels, survey_of

__all__ = [
    "IGNORE_LABEL",
    "OWN",
    "DataError",
    "Examples",
    "Labels",
    "Split",
    "TrainingStream",
    "check_examples",
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
    "Examples": "examples",
    "check_examples": "examples",
    "OWN": "examples",
    "IGNORE_LABEL": "labels",
    "Labels": "labels",
    "Split": "storage.datasets",
    "TrainingStream": "pipeline",
    "convert_image": "images.conversion",
    "doubts_on_labels": "storage.surveys",
    "evaluation_batches": "pipeline",
    "find_images": "images.files",
    "labels_of": "storage.datasets",
    "open_split": "storage.datasets",
    "prepare": "storage.preparation",
    "read_image": "images.conversion",
    "sizes_of_files": "images.sizes",
    "survey_of": "storage.surveys",
}


def __getattr__(name: str) -> Any:
    # Each name is imported when it is used: TFDS and Grain take seconds, and not every command
    # needs them.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"danet_jax.input_pipeline.{_MODULES[name]}"), name)
