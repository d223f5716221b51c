"""Bilinear resizing as PyTorch's `interpolate` does it: no antialiasing, corners aligned or not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def taps(size_in: int, size_out: int, *, align_corners: bool) -> tuple[Any, Any, Any]:
    """Returns the two neighbours along one axis, lower and upper, and the upper one's weight.

    Each is [size_out]. The sizes may be symbolic dimensions of `jax.export`; then these are jax
    arrays that are computed where they run, else numpy's.
    """
    known = isinstance(size_in, int) and isinstance(size_out, int)
    xp: Any = np if known else jnp
    index = xp.arange(size_out)
    # The position as a fraction of whole numbers, which no rounding moves across a pixel.
    if align_corners:
        numerator = index * (size_in - 1)
        denominator = max(size_out - 1, 1) if known else jax.core.max_dim(size_out - 1, 1)
    else:
        denominator = 2 * size_out
        numerator = (2 * index + 1) * size_in - size_out
        numerator = xp.clip(numerator, 0, denominator * (size_in - 1))
    low = numerator // denominator
    weight = (numerator - low * denominator) / (1.0 * denominator)
    return low, xp.minimum(low + 1, size_in - 1), weight


def interpolation_matrix(
    size_in: int, size_out: int, *, align_corners: bool
) -> Float[Array, "out in"] | Float[np.ndarray, "out in"]:
    """Returns the float32 matrix [size_out, size_in] whose rows hold each output's two weights."""
    low, high, weight = (
        tap[:, None] for tap in taps(size_in, size_out, align_corners=align_corners)
    )
    xp: Any = np if isinstance(low, np.ndarray) else jnp
    column = xp.arange(size_in)[None]
    matrix = xp.where(column == low, 1 - weight, 0.0) + xp.where(column == high, weight, 0.0)
    return matrix.astype(np.float32)


def resize_bilinear(
    x: Float[Array, "b h w c"], size: tuple[int, int], *, align_corners: bool
) -> Float[Array, "b {size[0]} {size[1]} c"]:
    """Resizes maps to (height, width) without antialiasing, in x's type.

    Two products with small matrices: their gradient is again two products, not a scatter.
    """
    height, width = x.shape[1:3]
    if (height, width) == tuple(size):
        return x
    rows = jnp.asarray(interpolation_matrix(height, size[0], align_corners=align_corners), x.dtype)
    columns = jnp.asarray(
        interpolation_matrix(width, size[1], align_corners=align_corners), x.dtype
    )
    highest = jax.lax.Precision.HIGHEST
    # [b, H, w, c]
    x = jnp.einsum("Hh,bhwc->bHwc", rows, x, precision=highest)
    # [b, H, W, c]
    return jnp.einsum("Ww,bHwc->bHWc", columns, x, precision=highest)
