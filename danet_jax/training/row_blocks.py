"""Logits at the label's size, some rows at a time: all at once they are the largest array there is.

At 171 classes, crops of 768 and a batch of 8 they take 3.2 GB a head, and as much for the gradient.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from danet_jax import parallel
from danet_jax.models.resize import interpolation_matrix, mixed, resize_bilinear

# MiB that one map's full-size logits may take before "auto" computes the loss block by block, and
# the share of it that a block takes.
DEFAULT_LOGIT_MEMORY = {"cpu": 64, "gpu": 512, "tpu": 512}
BLOCK_SHARE = 8

# Logits [b, r, w, s] and labels [b, r, w] of some rows → an array.
OfRows = Callable[[Array, Array], Array]
# The function, and whether what it gives is added up over rows or holds rows itself → the same of
# all rows.
OverPixels = Callable[[OfRows, bool], Array]


def rows_of_block(shape: tuple[int, ...], classes: int, *, mebibytes: int, platform: str) -> int:
    """Returns the rows of a block for labels [b, h, w]; their height for all at once.

    Args:
      shape: of the labels.
      classes: of the logits.
      mebibytes: that one map's logits may take on a device; 0 for the platform's default.
      platform: "cpu", "gpu" or "tpu".
    """
    b, height, width = shape
    budget = (mebibytes or DEFAULT_LOGIT_MEMORY.get(platform, 512)) * 2**20
    devices, sharing = parallel.shares()
    of_row = 4 * -(-b // devices) * width * classes
    # Where devices share an image's rows, each holds a part of them anyway.
    if of_row * height <= budget or sharing > 1:
        return height
    return min(max(budget // BLOCK_SHARE // of_row, 1), height)


def over_pixels(
    coarse: Float[Array, "b h w s"],
    label: Integer[Array, "b H W"],
    *,
    rows: int,
    align_corners: bool,
    ignored: int,
) -> OverPixels:
    """Returns what applies a function to the logits at the label's size and the labels.

    Args:
      coarse: logits at feature stride.
      label: of the size to which the logits are brought.
      rows: of a block; the label's height for all at once.
      align_corners: of the bilinear resizing.
      ignored: label of the pixels that fill up the last block.
    """
    b, height, width = label.shape
    if rows >= height:
        full = resize_bilinear(coarse, (height, width), align_corners=align_corners)
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
            return function(mixed(coarse, matrix, columns), label)

        if summed:

            def add(total, part):
                return total + block(coarse, part), None

            shape = jax.eval_shape(block, coarse, (of_rows[0], labels[0]))
            return jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (of_rows, labels))[0]
        # [m, b, r, W]
        found = jax.lax.map(lambda part: block(coarse, part), (of_rows, labels))
        return jnp.moveaxis(found, 0, 1).reshape(b, blocks * rows, width)[:, :height]

    return apply
