"""DANet (Dual Attention Network for Scene Segmentation, CVPR 2019) in JAX and Flax.

`train`, `evaluate` and `predict` do what the commands of `danet` do, a line each; `Examples` are a
program's own images and labels; a `Predictor` keeps a trained network for many images.
`create_model`, `create_train_state` and `train_step` are the parts of a loop of one's own,
`from_torch` and `to_torch` exchange its weights. Errors that a person can mend are `UserError`s.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from danet_jax.api import evaluate, predict, train
    from danet_jax.base.errors import UserError
    from danet_jax.input_pipeline import Examples
    from danet_jax.interop.torch_weights import from_torch, to_torch
    from danet_jax.network import create_model
    from danet_jax.ops.resize import resize_bilinear
    from danet_jax.prediction import Predictor
    from danet_jax.training.state import create_train_state
    from danet_jax.training.step import train_step

__all__ = [
    "Examples",
    "Predictor",
    "UserError",
    "create_model",
    "create_train_state",
    "evaluate",
    "from_torch",
    "predict",
    "resize_bilinear",
    "to_torch",
    "train",
    "train_step",
]

__version__ = "0.2.0"

_MODULES = {
    "Examples": "input_pipeline",
    "Predictor": "prediction",
    "UserError": "base.errors",
    "create_model": "network",
    "create_train_state": "training.state",
    "evaluate": "api",
    "from_torch": "interop.torch_weights",
    "predict": "api",
    "resize_bilinear": "ops.resize",
    "to_torch": "interop.torch_weights",
    "train": "api",
    "train_step": "training.step",
}


def __getattr__(name: str) -> Any:
    # Imported when used: the command line answers --help without waiting for JAX.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
