"""A network's logits at the size of its images, and labels without holding all of these logits."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from danet_jax.models.danet import DANet
from danet_jax.ops.resize import interpolate, interpolation_matrix, resize_bilinear

# Rows of an image whose logits are held at once.
LABEL_ROWS = 64


def full_logits(
    model: DANet,
    variables: dict,
    images: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"],
) -> Float[Array, "b h w s"]:
    """Returns the fused logits at the size of the images."""
    logits: Any = model.apply(variables, images, train=False)
    size = (images.shape[1], images.shape[2])
    return resize_bilinear(
        logits["fused"],
        size,
        align_corners=model.align_corners,
        implementation=model.implementation.resize,
    )


def full_labels(
    model: DANet,
    variables: dict,
    images: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"],
) -> UInt8[Array, "b h w"]:
    """Returns the class with the highest logit at each pixel."""
    logits: Any = model.apply(variables, images, train=False)
    coarse = logits["fused"]
    rows, columns = (
        jnp.asarray(
            interpolation_matrix(size_in, size_out, align_corners=model.align_corners), coarse.dtype
        )
        for size_in, size_out in zip(coarse.shape[1:3], images.shape[1:3], strict=True)
    )
    return labels_by_rows(coarse, rows, columns, implementation=model.implementation.resize)


def labels_by_rows(
    coarse: Float[Array, "b h w s"],
    rows: Float[Array, "H h"],
    columns: Float[Array, "W w"],
    *,
    implementation: str,
) -> UInt8[Array, "b H W"]:
    """Returns the class with the highest logit at each pixel of resized logits.

    Logits are resized LABEL_ROWS rows at a time: all at once they would take
    4 * classes * height * width bytes.

    Args:
      coarse: logits at feature stride.
      rows: weights of coarse rows in each row, see `interpolation_matrix`.
      columns: weights of coarse columns in each column.
      implementation: the implementation of `ops.resize.interpolate`.
    """
    b, height, width = coarse.shape[0], rows.shape[0], columns.shape[0]
    blocks = -(-height // LABEL_ROWS)
    padded = jnp.pad(rows, ((0, blocks * LABEL_ROWS - height), (0, 0)))

    def label_block(rows):
        return jnp.argmax(
            interpolate(coarse, rows, columns, implementation=implementation), axis=-1
        ).astype(jnp.uint8)

    # [b, m, R, W]
    labels = jnp.moveaxis(
        jax.lax.map(label_block, padded.reshape(blocks, LABEL_ROWS, coarse.shape[1])), 0, 1
    )
    return labels.reshape(b, blocks * LABEL_ROWS, width)[:, :height]
