"""From `config.model` to a network whose every choice is explicit, and its variables."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, UInt32

from danet_jax.base.errors import check_choice
from danet_jax.configs import common, rules
from danet_jax.models.danet import ATTENTIONS, DANet
from danet_jax.platform import PLATFORMS, Target, compiler_options, implementation

Variables = dict[str, Any]

PUBLISHED_MULTI_GRID = (4, 8, 16)
# Fields that say how it is computed, or what it starts from, and not what it is.
_OTHER_FIELDS = (
    "conv_weight_gradient",
    "energy_memory",
    "position_attention",
    "pretrained_backbone",
    "remat",
)


def create_model(
    model_config: ml_collections.ConfigDict | Mapping[str, Any],
    *,
    platform: str | Target | None = None,
) -> DANet:
    """Returns the Linen module for `config.model`.

    Args:
      model_config: all fields of `config.model`; or a dict of some of them, where the others have
        the defaults of configs/common.py, such as {"backbone": "resnet18", "num_classes": 5}.
      platform: "cpu", "gpu" or "tpu", for which its "auto"s are resolved, or a Target that also
        says how many devices share a batch and its rows; None for one of the devices here.

    Raises:
      UserError: a field or the platform has a wrong value.
    """
    if isinstance(model_config, Mapping):
        # A ConfigDict is none.
        defaults = common.get_config().model
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in model_config.items()}
        merged = {name: defaults[name] for name in defaults} | given
        model_config = ml_collections.ConfigDict(merged)
    rules.check_model(model_config)
    if isinstance(platform, str):
        check_choice("platform", platform, PLATFORMS)
        platform = Target(platform)
    target = platform or Target.here()
    # Where the field is unset and no crop size is known, the published dilations are used.
    multi_grid = model_config["multi_grid"]
    multi_grid = PUBLISHED_MULTI_GRID if multi_grid is None else tuple(multi_grid)
    fields = {name: value for name, value in model_config.items() if name not in _OTHER_FIELDS}
    fields |= {
        "attention": tuple(name for name in ATTENTIONS if name in model_config["attention"]),
        "multi_grid": multi_grid,
        "dtype": jnp.dtype(model_config["dtype"]),
        "implementation": implementation(model_config, target),
    }
    return DANet(**fields)


def compiled_init(model: DANet, seed: int) -> Variables:
    """Returns `init_variables`, compiled for this one use."""
    init = functools.partial(init_variables, model)
    options = compiler_options(Target.here(), runs_once=True)
    return jax.jit(init, compiler_options=options)(np.uint32(seed))


def init_variables(model: DANet, seed: UInt32[Array, ""]) -> Variables:
    """Returns random variables, to be traced: an array of a seed leaves one program for all."""
    # No parameter's shape depends on the image's size.
    image = jnp.zeros((1, 64, 64, 3), jnp.float32)
    return dict(_jitted_init(model)({"params": jax.random.key(seed)}, image))


@functools.lru_cache(maxsize=16)
def _jitted_init(model: DANet) -> Callable:
    """Always the same object, so that a network is traced once and not for each of shapes,
    checkpoint and state."""
    return jax.jit(functools.partial(model.init, train=False))


@functools.lru_cache(maxsize=16)
def abstract_variables(model: DANet) -> Variables:
    """Returns the shapes of `init_variables`; tracing a deep network takes a second or two."""
    return jax.eval_shape(functools.partial(init_variables, model), np.uint32(0))
