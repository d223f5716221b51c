"""The compiled functions of inference, for whole images and for windows."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from danet_jax.evaluation.full_size import full_labels, full_logits, labels_by_rows
from danet_jax.evaluation.padding import ValidRegion, mirrored, padded_logits, upsampled
from danet_jax.models.danet import DANet
from danet_jax.platform import Target, compiler_options

ImageArray = UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"]


class PlatformJit:
    """`jax.jit` with the compiler options of the platform, determined at the first call.

    Functions are made when the module is imported, and a distributed job has not found its devices
    then.
    """

    def __init__(self, function: Callable, *, static: tuple[str, ...]):
        self._function, self._static = function, static

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._jitted(*args, **kwargs)

    def compilations(self) -> int:
        """Returns for how many shapes and settings the function was compiled."""
        return self._jitted._cache_size()

    @functools.cached_property
    def _jitted(self) -> Any:
        options = compiler_options(Target.here())
        return jax.jit(self._function, static_argnames=self._static, compiler_options=options)


def _logits(
    model: DANet, variables: Any, images: ImageArray, region: ValidRegion | None
) -> Float[Array, "b h w s"]:
    """Returns logits at the size of the images, padding included."""
    if region is None:
        return full_logits(model, variables, images)
    logits = padded_logits(model, variables, images, jnp.asarray(region.size))
    return upsampled(logits, region, implementation=model.implementation.resize)


def _labels(
    model: DANet, variables: Any, images: ImageArray, region: ValidRegion | None
) -> UInt8[Array, "b h w"]:
    if region is None:
        return full_labels(model, variables, images)
    logits = padded_logits(model, variables, images, jnp.asarray(region.size))
    return labels_by_rows(
        logits,
        jnp.asarray(region.rows),
        jnp.asarray(region.columns),
        implementation=model.implementation.resize,
    )


def _probabilities(
    model: DANet, variables: Any, images: ImageArray, region: ValidRegion | None
) -> Float[Array, "b h w s"]:
    return jax.nn.softmax(_logits(model, variables, images, region), axis=-1)


def _window_scores(
    model: DANet,
    variables: Any,
    windows: ImageArray,
    region: ValidRegion | None,
    *,
    flip: bool,
    merge: str,
) -> Float[Array, "b h w s"]:
    """Returns the scores of normalised windows, at their own size."""

    def scores(windows):
        logits = _logits(model, variables, windows, region)
        return logits if merge == "original" else jax.nn.softmax(logits, axis=-1)

    upright = scores(windows)
    if not flip:
        return upright
    # The barrier makes the passes run one after the other, so that the second one reuses the
    # memory of the first.
    upright, windows = jax.lax.optimization_barrier((upright, windows))
    size = None if region is None else jnp.asarray(region.size)
    flipped = mirrored(scores(mirrored(windows, size)), size)
    return upright + flipped if merge == "original" else (upright + flipped) / 2


window_scores = PlatformJit(_window_scores, static=("model", "flip", "merge"))
whole_probabilities = PlatformJit(_probabilities, static=("model",))
whole_labels = PlatformJit(_labels, static=("model",))
