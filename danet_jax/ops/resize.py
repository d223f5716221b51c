"""Bilinear resizing as PyTorch's `interpolate` does it: no antialiasing, corners aligned or not."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

BY_PLATFORM = "by_platform"
IMPLEMENTATIONS = (BY_PLATFORM, "one_product", "row_products")


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
    x: Num[Array, "b h w c"],
    size: tuple[int, int],
    *,
    align_corners: bool,
    implementation: str = BY_PLATFORM,
) -> Float[Array, "b {size[0]} {size[1]} c"]:
    """Resizes maps to (height, width) without antialiasing, in x's type.

    `implementation` is one of IMPLEMENTATIONS, see `interpolate`.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x is {x.dtype}, in which weights between 0 and 1 would be rounded: give floats, such "
            "as x.astype(np.float32)"
        )
    height, width = x.shape[1:3]
    if (height, width) == tuple(size):
        return x
    rows = jnp.asarray(interpolation_matrix(height, size[0], align_corners=align_corners), x.dtype)
    columns = jnp.asarray(
        interpolation_matrix(width, size[1], align_corners=align_corners), x.dtype
    )
    return interpolate(x, rows, columns, implementation=implementation)


def interpolate(
    x: Float[Array, "b h w c"],
    rows: Float[Array, "H h"],
    columns: Float[Array, "W w"],
    *,
    implementation: str = BY_PLATFORM,
) -> Float[Array, "b H W c"]:
    """Returns maps whose rows and columns are weighted sums of x's.

    Two products with small matrices: their gradient is again two products, not a scatter.

    Args:
      x: the maps.
      rows: the weights of x's rows in each row, see `interpolation_matrix`.
      columns: the weights of x's columns in each column.
      implementation: one of IMPLEMENTATIONS; "by_platform" is decided where the program is lowered,
        also separately for each of several platforms.
    """
    if implementation == BY_PLATFORM:
        return jax.lax.platform_dependent(
            x,
            rows,
            columns,
            cuda=_by_row_products,
            rocm=_by_row_products,
            default=_by_one_product,
        )
    return {"one_product": _by_one_product, "row_products": _by_row_products}[implementation](
        x, rows, columns
    )


def _by_one_product(x: Array, rows: Array, columns: Array) -> Array:
    """One product along each axis."""
    # [b, H, w, c]
    x = jnp.einsum("Hh,bhwc->bHwc", rows, x, precision=jax.lax.Precision.HIGHEST)
    # [b, H, W, c]
    return jnp.einsum("Ww,bHwc->bHWc", columns, x, precision=jax.lax.Precision.HIGHEST)


def _by_row_products(x: Array, rows: Array, columns: Array) -> Array:
    """A product for each image, and one for each of its rows.

    XLA makes one large product of a single matrix for all, and transposes what comes out. For that
    the compiler for GPUs of jax 0.10 fails: "Couldn't find output tile sizes". The matrix's copies
    are not stored where XLA fuses them into the products, as it did for H100s.
    """
    rows = jnp.broadcast_to(rows, (x.shape[0], *rows.shape))
    # [b, H, w, c]
    x = jnp.einsum("bHh,bhwc->bHwc", rows, x, precision=jax.lax.Precision.HIGHEST)
    columns = jnp.broadcast_to(columns, (*x.shape[:2], *columns.shape))
    # [b, H, W, c]
    return jnp.einsum("bHWw,bHwc->bHWc", columns, x, precision=jax.lax.Precision.HIGHEST)
