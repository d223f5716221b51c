"""What a format is made of, and what several formats share."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from danet_jax.base.imagenet import MEAN, STD
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.models.danet import DANet
from danet_jax.network import Variables

Labels = UInt8[np.ndarray, "b h w"]
Scores = Float[np.ndarray, "b h w s"]
# uint8 images [b, h, w, 3] → labels, scores
Runner = Callable[[np.ndarray], tuple[Labels, Scores]]


@dataclasses.dataclass(frozen=True)
class Format:
    """How one kind of artefact is written and run again."""

    # The file that holds the model.
    file: str
    # Writes it, from (model, variables, settings, path).
    write: Callable[[DANet, Variables, InferenceSettings, Path], None]
    # Reads it back, from (path, model, settings).
    load: Callable[[Path, DANet, InferenceSettings], Runner]
    # How to use the file, for the manifest.
    usage: str
    # Input and output, for the manifest, of a model and its classes' names.
    interface: Callable[[DANet, Sequence[str]], dict[str, Any]]
    # Whether the file itself resizes, mirrors and merges as the run does with whole images.
    applies_settings: bool


def image_interface(model: DANet, names: Sequence[str]) -> dict[str, Any]:
    """Returns the interface of files that take images as they are and return labels."""
    return {
        "input": {
            "layout": "NHWC",
            "shape": ["batch", "height", "width", 3],
            "dtype": "uint8",
            "channels": "RGB",
            "range": [0, 255],
            "normalized_by": "the file",
            "mean": list(MEAN),
            "std": list(STD),
        },
        "output": {
            "labels": {
                "layout": "NHW",
                "shape": ["batch", "height", "width"],
                "dtype": "uint8",
                "meaning": "the class with the highest score",
            },
            "scores": {
                "layout": "NHWC",
                "shape": ["batch", "height", "width", len(names)],
                "dtype": "float32",
                "meaning": "softmax probabilities",
            },
        },
        "resize": {"method": "bilinear", "antialias": False, "align_corners": model.align_corners},
    }


def run_jax(function: Callable[[Any], dict[str, jax.Array]]) -> Runner:
    """Returns the runner of a function that returns "labels" and "scores"."""

    def run(image: np.ndarray) -> tuple[Labels, Scores]:
        outputs = function(jnp.asarray(image))
        return np.asarray(outputs["labels"]), np.asarray(outputs["scores"])

    return run
