"""Logits at the label's size, some rows at a time: all at once they are the largest array there is.

At 171 classes, crops of 768 and a batch of 8 they take 3.2 GB a head, and as much for the gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from danet_jax.ops.resize import interpolate, interpolation_matrix, resize_bilinear

# The share of the bytes of all logits that a block of rows takes.
BLOCK_SHARE = 8

# Logits [b, r, w, s] and labels [b, r, w] of some rows → an array.
OfRows = Callable[[Array, Array], Array]
# The function, and whether what it gives is added up over rows or holds rows itself → the same of
# all rows.
OverPixels = Callable[[OfRows, bool], Array]


def rows_of_block(shape: tuple[int, ...], classes: int, logit_bytes: int | None) -> int:
    """Returns the rows of a block for labels [b, h, w]; their height for all at once.

    Args:
      shape: of the labels.
      classes: of the logits.
      logit_bytes: that all logits may take at once; None for any number.
    """
    b, height, width = shape
    row_bytes = 4 * b * width * classes
    if logit_bytes is None or row_bytes * height <= logit_bytes:
        return height
    return min(max(logit_bytes // BLOCK_SHARE // row_bytes, 1), height)


def over_pixels(
    coarse: Float[Array, "b h w s"],
    label: Integer[Array, "b H W"],
    *,
    rows: int,
    align_corners: bool,
    ignored: int,
    resize: str,
) -> OverPixels:
    """Returns what applies a function to the logits at the label's size and the labels.

    Args:
      coarse: logits at feature stride.
      label: of the size to which the logits are brought.
      rows: of a block; the label's height for all at once.
      align_corners: of the bilinear resizing.
      ignored: label of the pixels that fill up the last block.
      resize: of `ops.resize`.
    """
    b, height, width = label.shape
    if rows >= height:
        full = resize_bilinear(
            coarse, (height, width), align_corners=align_corners, implementation=resize
        )
        return lambda function, summed: function(full, label)

    blocks = -(-height // rows)
    filled = ((0, blocks * rows - height), (0, 0))
    matrix, columns = (
        jnp.asarray(
            interpolation_matrix(size_in, size_out, align_corners=align_corners), coarse.dtype
        )
        for size_in, size_out in zip(coarse.shape[1:3], (height, width), strict=True)
    )
    of_rows = jnp.pad(matrix, filled).reshape(blocks, rows, -1)
    labels = jnp.pad(label, ((0, 0), *filled), constant_values=ignored)
    # [m, b, r, W]
    labels = jnp.moveaxis(labels.reshape(b, blocks, rows, width), 1, 0)

    def apply(function: OfRows, summed: bool) -> Array:
        @jax.checkpoint
        def block(coarse, part):
            matrix, label = part
            return function(interpolate(coarse, matrix, columns, implementation=resize), label)

        if summed:

            def add(total, part):
                return total + block(coarse, part), None

            shape = jax.eval_shape(block, coarse, (of_rows[0], labels[0]))
            return jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (of_rows, labels))[0]
        # [m, b, r, W]
        found = jax.lax.map(lambda part: block(coarse, part), (of_rows, labels))
        return jnp.moveaxis(found, 0, 1).reshape(b, blocks * rows, width)[:, :height]

    return apply
