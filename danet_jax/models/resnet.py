"""Dilated ResNets (He et al. 2016) that keep a fine feature map for segmentation."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax import parallel
from danet_jax.models import recomputation
from danet_jax.models.convolution import Conv
from danet_jax.models.normalization import BatchNorm

# Name: (bottleneck blocks?, blocks of layers 1 to 4). The smallest is for trials and laptops; the
# others are the paper's.
RESNETS = {
    "resnet10": (False, (1, 1, 1, 1)),
    "resnet18": (False, (2, 2, 2, 2)),
    "resnet34": (False, (3, 4, 6, 3)),
    "resnet50": (True, (3, 4, 6, 3)),
    "resnet101": (True, (3, 4, 23, 3)),
    "resnet152": (True, (3, 8, 36, 3)),
}
EXPANSION = 4
# What the gradient computes anew: nothing; in bottlenecks, norms and ReLUs and the wide 1x1
# convolutions; all of each block's inside. "auto" is "light" on CPU, else "none".
REMATS = ("auto", "none", "light", "block")
# A map of this size is worth a loop to save it; in training all blocks' are held.
LARGE_BYTES = 32 * 2**20
LARGE_TRAINING_BYTES = 4 * 2**20


def block_dilations(blocks: int, dilation: int, multi_grid: tuple[int, ...] = ()) -> list[int]:
    """Dilations of a layer's blocks: the first block takes half the layer's, unless it is 1.

    The values of multi_grid are dilations themselves, not multiples of the layer's.
    """
    if multi_grid:
        return list(multi_grid[:blocks])
    return [max(dilation // 2, 1)] + [dilation] * (blocks - 1)


def residual_relu(
    x: Float[Array, "b h w d"], y: Float[Array, "b h w d"], *, train: bool
) -> Float[Array, "b h w d"]:
    """relu(x + y), on CPU written over y where it is large.

    XLA would compute the sum anew for the next block's, and for that keep the y of all blocks of a
    layer: half of the memory of a large image.
    """
    return _residual_relu(x, y, LARGE_TRAINING_BYTES if train else LARGE_BYTES)


# The gradient needs the output alone, which the next block keeps anyway.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _residual_relu(x: Array, y: Array, large_bytes: int) -> Array:
    height = x.shape[1]
    # Rows that lie on several devices stay there.
    whole = isinstance(height, int) and parallel.shares()[1] == 1
    large = parallel.platform() == "cpu" and whole
    blocks = next((n for n in (8, 4, 2, 3, 5, 7) if large and height % n == 0), 1)
    if blocks == 1 or x.nbytes < large_bytes:
        return nn.relu(x + y)
    rows = height // blocks

    def write(block, y):
        of_x, of_y = (
            jax.lax.dynamic_slice_in_dim(whole, rows * block, rows, axis=1) for whole in (x, y)
        )
        return jax.lax.dynamic_update_slice_in_dim(y, nn.relu(of_x + of_y), rows * block, axis=1)

    return jax.lax.fori_loop(0, blocks, write, y)


def _relu_forward(x: Array, y: Array, large_bytes: int) -> tuple[Array, Array]:
    output = _residual_relu(x, y, large_bytes)
    return output, output


def _relu_backward(large_bytes: int, output: Array, gradient: Array) -> tuple[Array, Array]:
    left = jnp.where(output != 0, gradient, 0)
    return left, left


_residual_relu.defvjp(_relu_forward, _relu_backward)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the second keeps the layer's dilation where the first has its own."""

    features: int
    stride: int
    dilation: int
    layer_dilation: int
    dtype: jnp.dtype
    weight_gradient: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 d"]:
        conv = functools.partial(Conv, dtype=self.dtype, weight_gradient=self.weight_gradient)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        y = conv(self.features, 3, self.stride, self.dilation, name="conv1")(x)
        y = nn.relu(norm(name="bn1")(y, train=train))
        y = conv(self.features, 3, 1, self.layer_dilation, name="conv2")(y)
        y = norm(name="bn2")(y, train=train)
        if x.shape != y.shape:
            x = conv(self.features, 1, self.stride, name="downsample_conv")(x)
            x = norm(name="downsample_bn")(x, train=train)
        return residual_relu(x, y, train=train)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; the stride sits on the 3x3 convolution."""

    features: int
    stride: int
    dilation: int
    layer_dilation: int
    dtype: jnp.dtype
    weight_gradient: str
    light: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h2 w2 d"]:
        conv = functools.partial(Conv, dtype=self.dtype, weight_gradient=self.weight_gradient)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        # Kept for the gradient are the outputs of the two narrow convolutions alone.
        pending: dict[str, Any] = {"as_pending": True} if self.light and train else {}
        relu = {"train": train, "then": nn.relu, **pending}
        y = conv(self.features, 1, name="conv1")(recomputation.pending(x) if pending else x)
        y = norm(name="bn1")(y, **relu)
        y = conv(self.features, 3, self.stride, self.dilation, name="conv2")(y)
        y = norm(name="bn2")(y, **relu)
        y = conv(EXPANSION * self.features, 1, name="conv3")(y, **pending)
        y = norm(name="bn3")(y, train=train)
        if x.shape != y.shape:
            down = conv(EXPANSION * self.features, 1, self.stride, name="downsample_conv")
            x = norm(name="downsample_bn")(down(x, **pending), train=train)
        return residual_relu(x, y, train=train)


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
    weight_gradient: str = "auto"
    remat: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "b H W 3"], *, train: bool
    ) -> tuple[Float[Array, "b h w c3"], Float[Array, "b h w c4"]]:
        x = self._stem(x, train=train)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        # (stride, dilation) of layers 1 to 4.
        geometry = {
            8: ((1, 1), (2, 1), (1, 2), (1, 4)),
            16: ((1, 1), (2, 1), (2, 1), (1, 2)),
        }[self.output_stride]

        def run(block: nn.Module, x: Array) -> Array:
            return block(x, train=train)

        if self.remat == "block":
            run = nn.remat(run)
        light = self.remat == "light" or (self.remat == "auto" and parallel.platform() == "cpu")
        kind: Any = BasicBlock
        if self.bottleneck:
            kind = functools.partial(Bottleneck, light=light)
        outputs = []
        for number, ((stride, dilation), blocks) in enumerate(
            zip(geometry, self.blocks, strict=True), start=1
        ):
            multi_grid = self.multi_grid if number == 4 else ()
            dilations = block_dilations(blocks, dilation, multi_grid)
            for index, block_dilation in enumerate(dilations):
                block = kind(
                    features=self.width * 2 ** (number - 1),
                    stride=stride if index == 0 else 1,
                    dilation=block_dilation,
                    layer_dilation=dilation,
                    dtype=self.dtype,
                    weight_gradient=self.weight_gradient,
                    name=f"layer{number}_{index}",
                )
                x = run(block, x)
            outputs.append(x)
        return outputs[2], outputs[3]

    def _stem(self, x: Float[Array, "b H W 3"], *, train: bool) -> Float[Array, "b h w c"]:
        conv = functools.partial(Conv, dtype=self.dtype, weight_gradient=self.weight_gradient)
        norm = functools.partial(BatchNorm, dtype=self.dtype)
        if self.stem == "plain":
            x = conv(self.width, 7, 2, name="stem_conv1")(x)
            return nn.relu(norm(name="stem_bn1")(x, train=train))
        widths = (self.deep_stem_width, self.deep_stem_width, 2 * self.deep_stem_width)
        for number, width in enumerate(widths, start=1):
            x = conv(width, 3, 2 if number == 1 else 1, name=f"stem_conv{number}")(x)
            x = nn.relu(norm(name=f"stem_bn{number}")(x, train=train))
        return x
