"""Images and labels as numpy batches; knows nothing of the network that they are for."""

from input_pipeline.datasets import Split, open_split, prepare
from input_pipeline.errors import DataError
from input_pipeline.images import find_images, read_image
from input_pipeline.labels import IGNORE_LABEL, Labels
from input_pipeline.pipeline import TrainingStream, evaluation_batches

__all__ = [
    "IGNORE_LABEL",
    "DataError",
    "Labels",
    "Split",
    "TrainingStream",
    "evaluation_batches",
    "find_images",
    "open_split",
    "prepare",
    "read_image",
]
