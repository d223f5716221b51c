"""Bilinear resizing as PyTorch's `interpolate` does it: no antialiasing, corners aligned or not."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def interpolation_matrix(
    size_in: int, size_out: int, *, align_corners: bool
) -> Float[np.ndarray, "{size_out} {size_in}"]:
    """Returns the float32 matrix whose rows hold each output's two weights along one axis."""
    if align_corners:
        step = (size_in - 1) / (size_out - 1) if size_out > 1 else 0.0
        position = np.arange(size_out) * step
    else:
        position = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    position = np.clip(position, 0, size_in - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, size_in - 1)
    weight = position - low
    matrix = np.zeros((size_out, size_in))
    rows = np.arange(size_out)
    np.add.at(matrix, (rows, low), 1 - weight)
    np.add.at(matrix, (rows, high), weight)
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
