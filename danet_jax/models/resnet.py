"""Dilated ResNets (He et al. 2016) that keep a fine feature map for segmentation."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.models.layers import BatchNorm, Conv
from danet_jax.ops.implementation import NATIVE, Implementation
from danet_jax.ops.recompute import keep, recompute
from danet_jax.ops.residual_relu import residual_relu

# Name: (bottleneck blocks?, blocks of layers 1 to 4). resnet10 is for quick experiments; the others
# are those of He et al. 2016.
RESNETS = {
    "resnet10": (False, (1, 1, 1, 1)),
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
EXPANSION = 4
# (stride, dilation) of layers 1 to 4 by output stride.
STRIDES_AND_DILATIONS = {
    8: ((1, 1), (2, 1), (1, 2), (1, 4)),
    16: ((1, 1), (2, 1), (2, 1), (1, 2)),
}


def block_dilations(blocks: int, dilation: int, multi_grid: tuple[int, ...] = ()) -> list[int]:
    """Dilations of a layer's blocks: the first block takes half the layer's, unless it is 1.

    The values of multi_grid are dilations themselves, not multiples of the layer's.
    """
    if multi_grid:
        return list(multi_grid[:blocks])
    return [max(dilation // 2, 1)] + [dilation] * (blocks - 1)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the first takes the block's own dilation, the second the layer's."""

    features: int
    stride: int
    dilation: int
    layer_dilation: int
    dtype: jnp.dtype
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
        conv = functools.partial(Conv, dtype=self.dtype, implementation=self.implementation)
        norm = functools.partial(BatchNorm, dtype=self.dtype, implementation=self.implementation)
        y = conv(self.features, 3, self.stride, self.dilation, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(keep(y), train=train))
        y = conv(self.features, 3, 1, self.layer_dilation, name="conv2")(y)
        y = norm(name="bn2")(keep(y), train=train)
        if x.shape != y.shape:
            x = conv(self.features, 1, self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(keep(x), train=train)
        return residual_relu(x, y, self.implementation.residual_relu == "materialized")


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; the stride sits on the 3x3 convolution.

    Light recomputation keeps the outputs of the two narrow convolutions; the wide ones are as large
    as all else together, and 1x1 convolutions are cheap.
    """

    features: int
    stride: int
    dilation: int
    # Not used here: a bottleneck has one dilated convolution, a basic block two.
    layer_dilation: int
    dtype: jnp.dtype
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], train: bool) -> Float[Array, "b h2 w2 d"]:
        conv = functools.partial(Conv, dtype=self.dtype, implementation=self.implementation)
        norm = functools.partial(BatchNorm, dtype=self.dtype, implementation=self.implementation)
        y = conv(self.features, 1, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(keep(y), train=train))
        y = conv(self.features, 3, self.stride, self.dilation, name="conv2")(y)
        y = nn.relu(norm(name="bn2")(keep(y), train=train))
        y = conv(EXPANSION * self.features, 1, name="conv3")(y)
        y = norm(name="bn3")(y, train=train)
        if x.shape != y.shape:
            x = conv(EXPANSION * self.features, 1, self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x, train=train)
        return residual_relu(x, y, self.implementation.residual_relu == "materialized")


class ResNet(nn.Module):
    """Returns the outputs of layers 3 and 4, both at output_stride pixels per feature."""

    bottleneck: bool
    blocks: tuple[int, int, int, int]
    width: int = 64
    output_stride: int = 8
    multi_grid: tuple[int, ...] = ()
    stem: str = "plain"
    deep_stem_width: int = 32
    dtype: jnp.dtype = jnp.float32
    implementation: Implementation = NATIVE

    @nn.compact
    def __call__(
        self, x: Float[Array, "b H W 3"], *, train: bool
    ) -> tuple[Float[Array, "b h w c3"], Float[Array, "b h w c4"]]:
        x = self._stem(x, train=train)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        block = Bottleneck if self.bottleneck else BasicBlock
        if train:
            block = recompute(block, self.implementation.recompute)
        outputs = []
        geometry = STRIDES_AND_DILATIONS[self.output_stride]
        for layer, ((stride, dilation), blocks) in enumerate(
            zip(geometry, self.blocks, strict=True), start=1
        ):
            multi_grid = self.multi_grid if layer == 4 else ()
            for index, own_dilation in enumerate(block_dilations(blocks, dilation, multi_grid)):
                x = block(
                    features=self.width * 2 ** (layer - 1),
                    stride=stride if index == 0 else 1,
                    dilation=own_dilation,
                    layer_dilation=dilation,
                    dtype=self.dtype,
                    implementation=self.implementation,
                    name=f"layer{layer}_{index}",
                )(x, train)
            outputs.append(x)
        return outputs[2], outputs[3]

    def _stem(self, x: Float[Array, "b H W 3"], *, train: bool) -> Float[Array, "b h w c"]:
        conv = functools.partial(Conv, dtype=self.dtype, implementation=self.implementation)
        norm = functools.partial(BatchNorm, dtype=self.dtype, implementation=self.implementation)
        if self.stem == "plain":
            x = conv(self.width, 7, 2, name="stem_conv1")(x)
            return nn.relu(norm(name="stem_bn1")(x, train=train))
        widths = (self.deep_stem_width, self.deep_stem_width, 2 * self.deep_stem_width)
        for number, width in enumerate(widths, start=1):
            x = conv(width, 3, 2 if number == 1 else 1, name=f"stem_conv{number}")(x)
            x = nn.relu(norm(name=f"stem_bn{number}")(x, train=train))
        return x
