"""A network on images that are padded to a shape, with the scores of the images alone.

Zeros around an image alone would not do: norms and biases make something of them, which
convolutions and attention bring back into the image. So wherever one place of a map reaches
another, the map is first made zero beyond the image: that is what convolutions pad with, what adds
nothing to channel attention's sums, and no more than any value in front of the max pooling.
Position attention gives no weight there.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from danet_jax.models.attention import ChannelAttention, PositionAttention
from danet_jax.models.danet import DANet
from danet_jax.models.layers import BatchNorm, Conv
from danet_jax.models.resnet import ResNet
from danet_jax.ops.resize import interpolation_matrix, mixed

# Added to the energy of a key beyond the image; any softmax makes 0 of it.
_NEVER = -1e30


class Inside(NamedTuple):
    """Where the image is in its padded shape, and how its logits become as large as it is."""

    # Height and width of the image.
    size: Int[np.ndarray, "2"] | Int[Array, "2"]
    # What each row of the shape is mixed of, and each column; zeros beyond the image.
    rows: Float[np.ndarray, "H h"] | Float[Array, "H h"]
    columns: Float[np.ndarray, "W w"] | Float[Array, "W w"]


def inside(size: tuple[int, int], shape: tuple[int, int], model: DANet) -> Inside:
    """Returns where an image (height, width) is in a shape, whose sides divide by the stride."""
    stride = model.output_stride
    matrices = []
    for side, padded in zip(size, shape, strict=True):
        assert padded % stride == 0, "the sides of a shape are multiples of all strides"
        matrix = interpolation_matrix(-(-side // stride), side, align_corners=model.align_corners)
        missing = (padded - side, padded // stride - matrix.shape[1])
        matrices.append(np.pad(matrix, [(0, rows) for rows in missing]))
    return Inside(np.array(size, np.int32), *matrices)


def padded_logits(
    model: DANet,
    variables: Any,
    images: UInt8[Array, "b H W 3"] | Float[Array, "b H W 3"],
    size: Int[Array, "2"],
) -> Float[Array, "b h w s"]:
    """Returns the prediction's logits at feature stride; beyond the image they mean nothing.

    Args:
      model: the network.
      variables: its parameters.
      images: padded at the bottom and on the right, to sides that all strides divide.
      size: height and width of the images in it.
    """
    shape = images.shape[1:3]

    def is_inside(x: Array) -> Array:
        """Whether a place of a map [b, h, w, …] is of the image: [1, h, w, 1]."""
        rows, columns = (
            jnp.arange(side) * (padded // side) < true
            for side, padded, true in zip(x.shape[1:3], shape, size, strict=True)
        )
        return (rows[:, None] & columns[None])[None, ..., None]

    def cleared(x: Array) -> Array:
        return jnp.where(is_inside(x), x, jnp.zeros((), x.dtype))

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        is_spatial = isinstance(module, Conv) and module.kernel_size > 1
        if is_spatial or isinstance(module, ChannelAttention | PositionAttention):
            return call(cleared(args[0]), *args[1:], **kwargs)
        y = call(*args, **kwargs)
        if isinstance(module, BatchNorm) and isinstance(module.parent, ResNet):
            # The stem's, in front of the max pooling.
            return cleared(y)
        if isinstance(module, Conv) and isinstance(module.parent, PositionAttention):
            # A further channel, whose product is what is added to the energy.
            if module.name == "query":
                return jnp.concatenate([y, jnp.ones_like(y[..., :1])], axis=-1)
            if module.name == "key":
                added = jnp.where(is_inside(y), 0.0, _NEVER).astype(y.dtype)
                added = jnp.broadcast_to(added, (*y.shape[:3], 1))
                return jnp.concatenate([y, added], axis=-1)
        return y

    with nn.intercept_methods(intercept):
        logits: Any = model.apply(variables, images, train=False)
    return logits["fused"]


def enlarged(
    logits: Float[Array, "b h w s"], inside: Inside, *, form: str
) -> Float[Array, "b H W s"]:
    """Returns logits at the size of the padded shape; `form` is that of `ops.resize.mixed`."""
    return mixed(logits, jnp.asarray(inside.rows), jnp.asarray(inside.columns), form=form)


def mirrored(
    images: Float[Array, "b H W c"], size: Int[Array, "2"] | None
) -> Float[Array, "b H W c"]:
    """Returns mirror images; of padded ones in the place of the images."""
    if size is None:
        return images[:, :, ::-1]
    columns = jnp.arange(images.shape[2])
    return jnp.take(images, jnp.where(columns < size[1], size[1] - 1 - columns, columns), axis=2)
