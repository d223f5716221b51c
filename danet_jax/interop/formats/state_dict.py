"""PyTorch weights: a state_dict under the original's names, in a .safetensors file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import safetensors.numpy

from danet_jax.base.imagenet import MEAN, STD
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.interop.formats.format import Format, Runner, run_jax
from danet_jax.interop.torch_weights import from_torch, to_torch
from danet_jax.interop.whole_image import predict
from danet_jax.models.danet import DANet
from danet_jax.network import Variables


def write(model: DANet, variables: Variables, settings: InferenceSettings, path: Path) -> None:
    data = safetensors.numpy.save(to_torch(variables, model), metadata={"format": "pt"})
    path.write_bytes(data)


def load(path: Path, model: DANet, settings: InferenceSettings) -> Runner:
    variables = from_torch(safetensors.numpy.load_file(path), model)
    return run_jax(jax.jit(lambda image: predict(model, variables, image, settings)))


def interface(model: DANet, names: Sequence[str]) -> dict[str, Any]:
    """The interface of the network alone, which takes normalised images and returns logits."""
    logits = ["batch", len(names), "ceil(height / stride)", "ceil(width / stride)"]
    return {
        "input": {
            "layout": "NCHW",
            "shape": ["batch", 3, "height", "width"],
            "dtype": "float32",
            "channels": "RGB",
            "range": [0, 1],
            "normalized_by": "the caller",
            # (image / 255 - mean) / std
            "mean": list(MEAN),
            "std": list(STD),
        },
        "output": {
            "fused": {
                "layout": "NCHW",
                "shape": logits,
                "stride": model.output_stride,
                "dtype": "float32",
                "meaning": "logits; resized to the image, the highest one is the label",
            },
        },
        "resize": {"method": "bilinear", "antialias": False, "align_corners": model.align_corners},
    }


FORMAT = Format(
    file="model.safetensors",
    write=write,
    load=load,
    usage="safetensors.torch.load_file(FILE) is the state_dict of the original DANet (v0.5.0): "
    "normalise the image by mean and std, resize output 'fused' to it, and take the argmax over "
    "classes.",
    interface=interface,
    applies_settings=False,
)
