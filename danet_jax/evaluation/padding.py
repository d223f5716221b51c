"""A network on images that are padded to a shape, whose padding does not change their scores.

It does not suffice to pad images with zeros: norms and biases turn the zeros into other values,
which convolutions and attention would mix into the image. So before every operation that mixes
positions, the map is set to zero outside the image. Convolutions pad with zeros themselves, zeros
add nothing to the sums of channel attention, and a ReLU comes before the max pooling, so that no
value is less. Position attention gives the padding no weight.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from danet_jax.evaluation.shapes import Shapes
from danet_jax.models.attention import ChannelAttention, PositionAttention
from danet_jax.models.danet import Classifier, ConvNormRelu, DANet, DANetHead
from danet_jax.models.layers import BatchNorm, Conv
from danet_jax.models.resnet import ResNet
from danet_jax.ops.resize import interpolate, interpolation_matrix

# `padded_logits` keeps these modules of the head from mixing padding into the image.
_KNOWN_IN_HEAD = (ConvNormRelu, Classifier, ChannelAttention, PositionAttention)
# Added to the energies of keys outside the image, whose softmax is then 0.
_MASKED_ENERGY = -1e30


class ValidRegion(NamedTuple):
    """Where the image is in its padded shape, and how its logits are resized to its size."""

    # Height and width of the image.
    size: Int[np.ndarray, "2"] | Int[Array, "2"]
    # Interpolation weights of each row of the shape, and of each column; zeros in the padding.
    rows: Float[np.ndarray, "H h"] | Float[Array, "H h"]
    columns: Float[np.ndarray, "W w"] | Float[Array, "W w"]


def valid_region(size: tuple[int, int], shape: tuple[int, int], model: DANet) -> ValidRegion:
    """Returns the region of an image in a shape, both (height, width).

    The sides of the shape are multiples of the network's stride.
    """
    stride = model.output_stride
    matrices = []
    for side, padded in zip(size, shape, strict=True):
        assert padded % stride == 0, "the sides of a shape are multiples of all strides"
        matrix = interpolation_matrix(-(-side // stride), side, align_corners=model.align_corners)
        missing = (padded - side, padded // stride - matrix.shape[1])
        matrices.append(np.pad(matrix, [(0, rows) for rows in missing]))
    return ValidRegion(np.array(size, np.int32), *matrices)


def padded_shape(
    shapes: Shapes, size: tuple[int, int], model: DANet
) -> tuple[tuple[int, int], ValidRegion | None]:
    """Returns what an image (height, width) is padded to, and its region; None without padding."""
    shape = shapes.fit(size)
    return shape.size, None if shape.is_exact else valid_region(size, shape.size, model)


def padded_logits(
    model: DANet,
    variables: Any,
    images: UInt8[Array, "b H W 3"] | Float[Array, "b H W 3"],
    size: Int[Array, "2"],
) -> Float[Array, "b h w s"]:
    """Returns the fused logits at feature stride; those of the padding have no meaning.

    Args:
      model: the network.
      variables: its parameters.
      images: padded at the bottom and on the right, to sides that all strides divide.
      size: height and width of the images without padding.
    """
    shape = images.shape[1:3]

    def is_inside(x: Array) -> Array:
        """Whether each position of a map [b, h, w, …] belongs to the image: [1, h, w, 1]."""
        rows, columns = (
            jnp.arange(side) * (padded // side) < true
            for side, padded, true in zip(x.shape[1:3], shape, size, strict=True)
        )
        return (rows[:, None] & columns[None])[None, ..., None]

    def masked(x: Array) -> Array:
        return jnp.where(is_inside(x), x, jnp.zeros((), x.dtype))

    def intercept(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if isinstance(module.parent, DANetHead) and not isinstance(module, _KNOWN_IN_HEAD):
            # It might mix padding into the image.
            raise ValueError(f"say here how {type(module).__name__} leaves padding out")
        is_spatial = isinstance(module, Conv) and module.kernel_size > 1
        if is_spatial or isinstance(module, ChannelAttention | PositionAttention):
            return call(masked(args[0]), *args[1:], **kwargs)
        y = call(*args, **kwargs)
        if isinstance(module, BatchNorm) and isinstance(module.parent, ResNet):
            # These are the stem's norms, the last of which the max pooling follows.
            return masked(y)
        if isinstance(module, Conv) and isinstance(module.parent, PositionAttention):
            # A further channel, whose product with the query's is added to the energy.
            if module.name == "query":
                return jnp.concatenate([y, jnp.ones_like(y[..., :1])], axis=-1)
            if module.name == "key":
                added = jnp.where(is_inside(y), 0.0, _MASKED_ENERGY).astype(y.dtype)
                added = jnp.broadcast_to(added, (*y.shape[:3], 1))
                return jnp.concatenate([y, added], axis=-1)
        return y

    with nn.intercept_methods(intercept):
        logits: Any = model.apply(variables, images, train=False)
    return logits["fused"]


def upsampled(
    logits: Float[Array, "b h w s"], region: ValidRegion, *, implementation: str
) -> Float[Array, "b H W s"]:
    """Returns logits at the padded shape's size; see `ops.resize.interpolate`."""
    return interpolate(
        logits, jnp.asarray(region.rows), jnp.asarray(region.columns), implementation=implementation
    )


def mirrored(
    images: Float[Array, "b H W c"], size: Int[Array, "2"] | None
) -> Float[Array, "b H W c"]:
    """Returns mirror images; padded images stay at the left, before their padding."""
    if size is None:
        return images[:, :, ::-1]
    columns = jnp.arange(images.shape[2])
    return jnp.take(images, jnp.where(columns < size[1], size[1] - 1 - columns, columns), axis=2)
