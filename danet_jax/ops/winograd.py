"""3x3 convolutions with 16 products in place of 36: Winograd's F(2x2, 3x3).

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.1. Here a
tile takes every dilation-th pixel, so that dilated convolutions are nothing special.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Three taps to four points, and back.
_KERNEL_TO_POINTS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
_POINTS_TO_KERNEL = np.array([[1, 0, 0, 0], [0, 1, -1, 0], [0, 0, 0, 1]], np.float32)
# Bytes of a map that are transformed at a time, which bounds the memory.
BLOCK_BYTES = 64 * 2**20


def transform_kernel(kernel: Float[Array, "3 3 c d"]) -> Float[Array, "4 4 c d"]:
    """Returns the kernel at the four by four points where `winograd_convolve` multiplies."""
    return jnp.stack(kernel_rows(kernel))


def kernel_rows(
    kernel: Float[Array, "3 3 c d"], *, rotated: bool = False
) -> list[Float[Array, "4 c d"]]:
    """Returns `transform_kernel` row by row, so that not all of it has to be held at once.

    Args:
      kernel: of the convolution.
      rotated: by half a turn, as the gradient with respect to the input needs it.
    """
    # [4, 4, 9]
    taps = np.einsum("ai,bj->abij", _KERNEL_TO_POINTS, _KERNEL_TO_POINTS).reshape(4, 4, 9)
    if rotated:
        taps = taps[:, :, ::-1]
    # One product for all channels, without a copy of the kernel in another order.
    flat = kernel.reshape(9, -1)
    highest = jax.lax.Precision.HIGHEST
    return [
        jnp.matmul(of_row, flat, precision=highest).reshape(4, *kernel.shape[2:])
        for of_row in taps.astype(kernel.dtype)
    ]


def restore_kernel(points: Float[Array, "4 4 c d"]) -> Float[Array, "3 3 c d"]:
    """Returns the kernel of which `transform_kernel` made these points."""
    # [3, 3, c, d]
    return jnp.einsum(
        "ia,jb,abcd->ijcd",
        _POINTS_TO_KERNEL,
        _POINTS_TO_KERNEL,
        points,
        precision=jax.lax.Precision.HIGHEST,
    )


def is_worthwhile(height: int, width: int, *, dilation: int) -> bool:
    """True where the tiles do not lie mostly outside of a map of this size."""
    side = 2 * dilation
    tiled = -(-height // side) * -(-width // side) * side**2
    # 16 products for four outputs, against 36.
    return 16 * tiled < 0.75 * 36 * height * width


def winograd_convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "4 4 c d"] | list[Float[Array, "4 _ _"]],
    *,
    dilation: int = 1,
    transposed: bool = False,
) -> Float[Array, "b h w d"]:
    """Convolves with zero padding of `dilation` on each side.

    Args:
      x: the map.
      kernel: of `transform_kernel` or `kernel_rows`.
      dilation: distance of the taps.
      transposed: the kernel's last two axes are outputs and inputs.
    """
    b, h, w, c = x.shape
    # Tiles of 2 x 2 outputs, whose rows and columns lie `dilation` apart.
    side = 2 * dilation
    tiles_down, tiles_across = -(-h // side), -(-w // side)
    row_bytes = 4 * b * side * (tiles_across + 1) * side * c
    blocks = -(-tiles_down // max(BLOCK_BYTES // row_bytes, 1))
    # Blocks are as equal as they can be, since the rows that the last one has too many are computed
    # in vain.
    rows = -(-tiles_down // blocks)
    blocks = -(-tiles_down // rows)
    bottom = blocks * rows * side + dilation - h
    right = tiles_across * side + dilation - w
    x = jnp.pad(x, ((0, 0), (dilation, bottom), (dilation, right), (0, 0)))
    if dilation > 1:
        # Rows and columns by half of a tile and place in it: [b, 2 m + 2, r, 2 n + 2, s, c].
        x = x.reshape(b, -1, dilation, 2 * tiles_across + 2, dilation, c)
    if blocks == 1:
        return _convolve_block(x, kernel, transposed)[:, :h, :w]

    def block(index):
        part = jax.lax.dynamic_slice_in_dim(x, 2 * rows * index, 2 * rows + 2, axis=1)
        return _convolve_block(part, kernel, transposed)

    # [b, blocks, rows, w, d]
    y = jnp.moveaxis(jax.lax.map(block, jnp.arange(blocks)), 0, 1)
    return y.reshape(b, blocks * rows * side, *y.shape[3:])[:, :h, :w]


def winograd_kernel_gradient(
    x: Float[Array, "b h w c"], gradient: Float[Array, "b h w d"], *, dilation: int = 1
) -> Float[Array, "3 3 c d"]:
    """The gradient with respect to the kernel of a convolution as `winograd_convolve` computes it.

    Args:
      x: the map.
      gradient: by the convolution's output.
      dilation: distance of the taps.
    """
    b, h, w, c = x.shape
    side = 2 * dilation
    tiles_down, tiles_across = -(-h // side), -(-w // side)
    bottom, right = tiles_down * side - h, tiles_across * side - w
    x = jnp.pad(x, ((0, 0), *((dilation, more + dilation) for more in (bottom, right)), (0, 0)))
    gradient = jnp.pad(gradient, ((0, 0), (0, bottom), (0, right), (0, 0)))
    if dilation > 1:
        x = x.reshape(b, -1, dilation, 2 * tiles_across + 2, dilation, c)
        gradient = gradient.reshape(b, -1, dilation, 2 * tiles_across, dilation, gradient.shape[-1])
    across = x.ndim // 2
    rows = []
    for of_row, of_gradient in zip(
        _negated_points(x, axis=1), _negated_points_of_outputs(gradient, axis=1), strict=True
    ):
        # [4, b m r n s, c], [4, b m r n s, d]
        of_points = jnp.stack([p.reshape(-1, c) for p in _points(of_row, axis=across)])
        of_outputs = jnp.stack(
            [p.reshape(-1, p.shape[-1]) for p in _points_of_outputs(of_gradient, axis=across)]
        )
        rows.append(jnp.einsum("anc,and->acd", of_points, of_outputs))
    return jnp.stack([jnp.stack(_taps_of_sums(row)) for row in _taps_of_sums(rows)])


def _convolve_block(x: Array, kernel: Array | list[Array], transposed: bool) -> Array:
    product = "anc,adc->and" if transposed else "anc,acd->and"
    # Without dilation there are no places within a half: axes of length 1 would cost copies.
    b, halves_down, *place_down, c = (*x.shape[: x.ndim // 2], x.shape[-1])
    halves_across, *place_across = x.shape[x.ndim // 2 : -1]
    down, across = halves_down // 2 - 1, halves_across // 2 - 1
    products = []
    for row, of_row in enumerate(_points(x, axis=1)):
        # [4, b m r n s, c], [4, b m r n s, d]
        of_points = jnp.stack([p.reshape(-1, c) for p in _points(of_row, axis=x.ndim // 2)])
        products.append(jnp.einsum(product, of_points, kernel[row]))
    rows = []
    for of_row in _outputs(products):
        # [b, m, r, n, s, d]
        shape = (b, down, *place_down, across, *place_across, -1)
        halves = [half.reshape(shape) for half in _outputs(of_row)]
        # [b, m, r, n, 2, s, d], of which the places may be missing.
        joined = jnp.stack(halves, axis=x.ndim // 2 + 1)
        rows.append(joined.reshape(b, down, *place_down, -1, joined.shape[-1]))
    # [b, m, 2, r, w, d]
    y = jnp.stack(rows, axis=2)
    return y.reshape(b, -1, *y.shape[-2:])


def _points(x: Array, *, axis: int) -> list[Array]:
    """Each tile's four pixels along an axis as four points; tiles overlap by two."""
    last = x.shape[axis] - 2
    a, b, c, d = (
        jax.lax.slice_in_dim(x, start, start + last - 1, stride=2, axis=axis) for start in range(4)
    )
    return [a - c, b + c, c - b, b - d]


def _outputs(points: Iterable[Array]) -> tuple[Array, Array]:
    a, b, c, d = points
    return a + b + c, b - c - d


def _negated_points(x: Array, *, axis: int) -> list[Array]:
    """-`_points`: the same sums as the convolution's would be kept from there by XLA, which takes
    four times the map's memory."""
    last = x.shape[axis] - 2
    a, b, c, d = (
        jax.lax.slice_in_dim(x, start, start + last - 1, stride=2, axis=axis) for start in range(4)
    )
    return [c - a, -b - c, b - c, d - b]


def _points_of_outputs(y: Array, *, axis: int) -> list[Array]:
    """The transpose of `_outputs`, along an axis on which outputs take turns."""
    first, second = (jax.lax.slice_in_dim(y, start, None, stride=2, axis=axis) for start in (0, 1))
    return [first, first + second, first - second, -second]


def _negated_points_of_outputs(y: Array, *, axis: int) -> list[Array]:
    first, second = (jax.lax.slice_in_dim(y, start, None, stride=2, axis=axis) for start in (0, 1))
    return [-first, -first - second, second - first, second]


def _taps_of_sums(points: Iterable[Array]) -> list[Array]:
    """The transpose of how taps become points."""
    a, b, c, d = points
    ends = 0.5 * (b + c)
    return [a + ends, 0.5 * (b - c), ends + d]
