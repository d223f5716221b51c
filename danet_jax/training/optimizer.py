"""SGD of the original recipe, its schedules, and LARS for large batches."""

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
    """Returns the learning rate by step; configs/common.py gives the formula of each schedule."""
    rate, least = optimizer_config.learning_rate, optimizer_config.min_learning_rate
    warmup = warmup_steps(optimizer_config, total_steps)
    rest = total_steps - warmup
    match optimizer_config.schedule:
        case "poly":
            main = optax.polynomial_schedule(rate, least, optimizer_config.poly_power, rest)
        case "cosine":
            main = optax.cosine_decay_schedule(rate, rest, alpha=least / rate if rate else 0.0)
        case "constant":
            main = optax.constant_schedule(rate)
        case unknown:
            raise ValueError(f"unknown schedule {unknown!r}")
    if not warmup:
        return main
    # The first step has 1 / warmup of the rate, and the last one of the warm-up all of it.
    rising = optax.linear_schedule(rate / warmup, rate, max(warmup - 1, 1))
    return optax.join_schedules([rising, main], [warmup])


def warmup_steps(
    optimizer_config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict, total_steps: int
) -> int:
    """Returns over how many of a training's steps the learning rate rises."""
    return min(round(optimizer_config.warmup * total_steps), total_steps - 1)


def create_optimizer(
    optimizer_config: ml_collections.ConfigDict | ml_collections.FrozenConfigDict,
    *,
    clip_norm: float,
    total_steps: int,
) -> optax.GradientTransformation:
    """Returns the update rule of torch.optim.SGD with a group each for backbone and head.

    The rate multiplies the momentum buffer, as in torch, so a changing rate acts at once. With a
    trust coefficient above 0 it is LARS (You, Gitman, Ginsburg 2017), for kernels alone: each one's
    gradient, decay included, is scaled to the coefficient times the kernel's norm.
    """
    schedule = learning_rate_schedule(optimizer_config, total_steps)
    head_factor = optimizer_config.head_factor
    decayed = None if optimizer_config.decay_norm_and_bias else is_neither_norm_nor_bias
    trust = optimizer_config.trust_coefficient
    # An identity would change the state's structure, in which older runs were saved.
    layerwise = [optax.masked(optax.scale_by_trust_ratio(trust_coefficient=trust), is_kernel)]
    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm > 0 else optax.identity(),
        optax.add_decayed_weights(optimizer_config.weight_decay, mask=decayed),
        *(layerwise if trust > 0 else []),
        optax.trace(decay=optimizer_config.momentum),
        optax.masked(optax.scale(head_factor), is_head),
        optax.scale_by_learning_rate(schedule),
    )


def is_kernel(params: Params) -> Params:
    """Marks the kernels of convolutions."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key == "kernel", params)


def is_head(params: Params) -> Params:
    """Marks each parameter outside the backbone."""
    return jax.tree.map_with_path(lambda path, _: path[0].key != BACKBONE, params)


def is_neither_norm_nor_bias(params: Params) -> Params:
    """Marks kernels and the attentions' gammas: all but batch norm's scales and every bias."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key not in ("scale", "bias"), params)
