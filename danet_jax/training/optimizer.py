"""SGD of the original recipe: weight decay, momentum, poly schedule, a faster head."""

from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import optax

from danet_jax.models.danet import BACKBONE

Params = Any


def learning_rate_schedule(
    optimizer_config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict, total_steps: int
) -> Callable[[Any], Any]:
    """(rate - minimum) * (1 - step / total_steps) ** power + minimum, without a warm-up."""
    return optax.polynomial_schedule(
        optimizer_config.learning_rate,
        optimizer_config.min_learning_rate,
        optimizer_config.poly_power,
        total_steps,
    )


def create_optimizer(
    optimizer_config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
    *,
    clip_norm: float,
    total_steps: int,
) -> optax.GradientTransformation:
    """Returns the update rule of torch.optim.SGD with a group each for backbone and head.

    The rate multiplies the momentum buffer, as in torch, so a changing rate acts at once.
    """
    schedule = learning_rate_schedule(optimizer_config, total_steps)
    head_factor = optimizer_config.head_factor
    decayed = None if optimizer_config.decay_norm_and_bias else is_neither_norm_nor_bias
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity(),
        optax.add_decayed_weights(optimizer_config.weight_decay, mask=decayed),
        optax.trace(decay=optimizer_config.momentum),
        optax.masked(optax.scale(head_factor), is_head),
        optax.scale_by_learning_rate(schedule),
    )


def is_head(params: Params) -> Params:
    """Marks each parameter outside the backbone."""
    return jax.tree.map_with_path(lambda path, _: path[0].key != BACKBONE, params)


def is_neither_norm_nor_bias(params: Params) -> Params:
    """Marks kernels and the attentions' gammas: all but batch norm's scales and every bias."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key not in ("scale", "bias"), params)
