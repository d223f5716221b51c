"""Scores of windows, flips and scales merged into those of an image.

Two rules. "original": a pixel's score is the sum over scales of the mean over windows of
exp(logits + mirrored logits), as in the original (v0.5.0); all are kept as logarithms, so that no
logit overflows. "softmax": the mean of probabilities over windows, flips and scales.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from danet_jax.models.danet import DANet, full_logits
from danet_jax.models.resize import taps

MERGES = ("softmax", "original")
# Sums have sides that are multiples of this, so that images of many sizes share their programs.
BUCKET = 128
# Rows of the image that are resized at a time.
ROWS = 64


def bucket(side: int) -> int:
    """Returns the next multiple of BUCKET."""
    return -(-side // BUCKET) * BUCKET


def empty(size: tuple[int, int], num_classes: int, merge: str) -> Float[Array, "h w s"]:
    """Returns the sum of nothing, with sides rounded up."""
    shape = (bucket(size[0]), bucket(size[1]), num_classes)
    return jnp.full(shape, -jnp.inf if merge == "original" else 0.0, jnp.float32)


def _sum(a: Array, b: Array, merge: str) -> Array:
    return jnp.logaddexp(a, b) if merge == "original" else a + b


@functools.partial(jax.jit, static_argnames=("model", "flip", "merge"))
def window_scores(
    model: DANet, variables: dict, windows: Float[Array, "b h w 3"], *, flip: bool, merge: str
) -> Float[Array, "b h w s"]:
    """Returns the scores of normalised windows at their own size."""

    def scores(windows):
        logits = full_logits(model, variables, windows)
        return logits if merge == "original" else jax.nn.softmax(logits, axis=-1)

    found = scores(windows)
    if not flip:
        return found
    # A barrier keeps one pass's memory from the other's.
    found, windows = jax.lax.optimization_barrier((found, windows))
    mirrored = scores(windows[:, :, ::-1])[:, :, ::-1]
    return found + mirrored if merge == "original" else (found + mirrored) / 2


@functools.partial(jax.jit, static_argnames="merge", donate_argnums=0)
def add_window(
    total: Float[Array, "H W s"],
    scores: Float[Array, "h w s"],
    corner: Int[np.ndarray, "2"] | Int[Array, "2"],
    *,
    merge: str,
) -> Float[Array, "H W s"]:
    """Adds a window's scores to its place in the sum of a scale."""
    start = (corner[0], corner[1], 0)
    former = jax.lax.dynamic_slice(total, start, scores.shape)
    return jax.lax.dynamic_update_slice(total, _sum(former, scores, merge), start)


def add_scale(
    total: Float[Array, "H W s"],
    scale: Float[Array, "h w s"],
    counts: Int[np.ndarray, "h2 w2"],
    size: tuple[int, int],
    *,
    align_corners: bool,
    merge: str,
) -> Float[Array, "H W s"]:
    """Adds a scale's mean over windows, resized to the image, to the image's sum.

    Args:
      total: the image's sum, of `empty`; given away.
      scale: the scale's sum over windows.
      counts: how many windows cover each pixel of the scale.
      size: of the image.
      align_corners: how the sizes meet.
      merge: the rule.
    """
    rows = _taps(counts.shape[0], size[0], total.shape[0], align_corners)
    columns = _taps(counts.shape[1], size[1], total.shape[1], align_corners)
    padded = np.ones(scale.shape[:2], np.float32)
    padded[: counts.shape[0], : counts.shape[1]] = counts
    for first in range(0, size[0], ROWS):
        # The last block is moved up instead of reaching beyond; total has whole blocks.
        block = tuple(tap[first : first + ROWS] for tap in rows)
        total = _add_rows(total, scale, padded, first, block, columns, merge=merge)
    return total


@functools.partial(jax.jit, static_argnames="merge", donate_argnums=0)
def _add_rows(total, scale, counts, first, rows, columns, *, merge):
    def mean(index):
        scores, number = scale[index], counts[index][..., None]
        return scores - jnp.log(number) if merge == "original" else scores / number

    low, high, weight = rows
    block = _between(mean(low), mean(high), weight[:, None, None], merge)
    low, high, weight = columns
    block = _between(block[:, low], block[:, high], weight[None, :, None], merge)
    start = (first, 0, 0)
    former = jax.lax.dynamic_slice(total, start, block.shape)
    return jax.lax.dynamic_update_slice(total, _sum(former, block, merge), start)


def _between(low: Array, high: Array, weight: Array, merge: str) -> Array:
    """The point between two scores; "original" interpolates what they are logarithms of."""
    if merge == "original":
        return jnp.logaddexp(low + jnp.log1p(-weight), high + jnp.log(weight))
    return low * (1 - weight) + high * weight


def _taps(
    size_in: int, size_out: int, padded: int, align_corners: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`taps`, and of the rest up to `padded` that of the first pixel."""
    low, high, weight = (
        np.pad(tap, (0, padded - size_out))
        for tap in taps(size_in, size_out, align_corners=align_corners)
    )
    return low.astype(np.int32), high.astype(np.int32), weight.astype(np.float32)


@jax.jit
def labels(total: Float[Array, "h w s"]) -> UInt8[Array, "h w"]:
    """Returns the class with the highest score."""
    return jnp.argmax(total, axis=-1).astype(jnp.uint8)


def resize(
    image: Float[np.ndarray, "h w 3"], size: tuple[int, int], *, align_corners: bool
) -> Float[np.ndarray, "{size[0]} {size[1]} 3"]:
    """Resizes an image on the host, bilinear without antialiasing, as its scores are later."""
    if image.shape[:2] == size:
        return image
    low, high, weight = _taps(image.shape[0], size[0], size[0], align_corners)
    weight = weight[:, None, None]
    image = image[low] * (1 - weight) + image[high] * weight
    low, high, weight = _taps(image.shape[1], size[1], size[1], align_corners)
    weight = weight[None, :, None]
    return image[:, low] * (1 - weight) + image[:, high] * weight
