"""The Dual Attention Network (Fu et al., CVPR 2019) and its ablations."""

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from danet_jax.base.imagenet import MEAN, STD
from danet_jax.models.attention import ChannelAttention, PositionAttention
from danet_jax.models.layers import HEAD_INIT, BatchNorm, Conv
from danet_jax.models.resnet import RESNETS, ResNet
from danet_jax.ops.implementation import NATIVE, Implementation

ATTENTIONS = ("position", "channel")
BACKBONE = "backbone"


def normalize(
    image: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"],
) -> Float[Array, "b h w 3"]:
    """Normalises uint8 RGB to float32; a float image counts as normalised already."""
    return standardize(image.astype(jnp.float32)) if image.dtype == jnp.uint8 else image


def standardize(image: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Normalises RGB of 0 to 255 by ImageNet's mean and standard deviation."""
    mean = 255 * jnp.array(MEAN, jnp.float32)
    std = 255 * jnp.array(STD, jnp.float32)
    return (image - mean[None, None, None]) / std[None, None, None]


class ConvNormRelu(nn.Module):
    """3x3 convolution, batch norm, ReLU."""

    features: int
    dtype: jnp.dtype
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        conv = functools.partial(Conv, dtype=self.dtype, implementation=self.implementation)
        norm = functools.partial(BatchNorm, dtype=self.dtype, implementation=self.implementation)
        x = conv(self.features, 3, kernel_init=HEAD_INIT, name="conv")(x)
        return nn.relu(norm(name="bn")(x, train=train))


class Classifier(nn.Module):
    """Dropout of whole channels, then a 1x1 convolution to logits of at least float32."""

    num_classes: int
    dropout_rate: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w s"]:
        x = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2))(x, deterministic=not train)
        conv = Conv(
            self.num_classes, 1, use_bias=True, dtype=self.dtype, kernel_init=HEAD_INIT, name="conv"
        )
        x = conv(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class DANetHead(nn.Module):
    """One branch for each attention, a classifier on each and on their sum.

    With at most one attention there is a single branch, so only "fused" is returned.
    """

    num_classes: int
    attention: tuple[str, ...]
    channel_energy: str
    dropout_rate: float
    dtype: jnp.dtype
    implementation: Implementation

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> dict[str, Float[Array, "b h w s"]]:
        block = functools.partial(ConvNormRelu, x.shape[-1] // 4, self.dtype, self.implementation)
        classify = functools.partial(Classifier, self.num_classes, self.dropout_rate, self.dtype)
        branches = {}
        if "position" in self.attention:
            y = block(name="position_in")(x, train=train)
            attend = PositionAttention(self.dtype, self.implementation, name="position_attention")
            y = attend(y)
            branches["position"] = block(name="position_out")(y, train=train)
        if "channel" in self.attention:
            y = block(name="channel_in")(x, train=train)
            y = ChannelAttention(self.channel_energy, self.dtype, name="channel_attention")(y)
            branches["channel"] = block(name="channel_out")(y, train=train)
        if not self.attention:
            branches["plain"] = block(name="plain_in")(x, train=train)

        fused = functools.reduce(jnp.add, branches.values())
        logits = {"fused": classify(name="fused_classifier")(fused, train=train)}
        if len(branches) > 1:
            for name, branch in branches.items():
                logits[name] = classify(name=f"{name}_classifier")(branch, train=train)
        return logits


class AuxiliaryHead(nn.Module):
    """FCN head on layer 3, which is used in training only."""

    num_classes: int
    dropout_rate: float
    dtype: jnp.dtype
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w s"]:
        block = ConvNormRelu(x.shape[-1] // 4, self.dtype, self.implementation, name="in")
        x = block(x, train=train)
        classifier = Classifier(self.num_classes, self.dropout_rate, self.dtype, name="classifier")
        return classifier(x, train=train)


class DANet(nn.Module):
    """Logits at feature stride by name: "fused" (the prediction), "position", "channel",
    "auxiliary".

    Takes uint8 RGB [b, h, w, 3], which it normalises, or a float image that is normalised already.
    """

    backbone: str
    num_classes: int
    width: int = 64
    output_stride: int = 8
    multi_grid: tuple[int, ...] = ()
    stem: str = "plain"
    deep_stem_width: int = 32
    attention: tuple[str, ...] = ATTENTIONS
    channel_energy: str = "max_minus"
    dropout_rate: float = 0.1
    align_corners: bool = True
    auxiliary_head: bool = False
    dtype: jnp.dtype = jnp.float32
    implementation: Implementation = NATIVE

    @nn.compact
    def __call__(
        self,
        image: UInt8[Array, "b H W 3"] | Float[Array, "b H W 3"],
        *,
        train: bool,
    ) -> dict[str, Float[Array, "b h w s"]]:
        bottleneck, blocks = RESNETS[self.backbone]
        layer3, layer4 = ResNet(
            bottleneck=bottleneck,
            blocks=blocks,
            width=self.width,
            output_stride=self.output_stride,
            multi_grid=self.multi_grid,
            stem=self.stem,
            deep_stem_width=self.deep_stem_width,
            dtype=self.dtype,
            implementation=self.implementation,
            name=BACKBONE,
        )(normalize(image).astype(self.dtype), train=train)
        logits = DANetHead(
            num_classes=self.num_classes,
            attention=self.attention,
            channel_energy=self.channel_energy,
            dropout_rate=self.dropout_rate,
            dtype=self.dtype,
            implementation=self.implementation,
            name="head",
        )(layer4, train=train)
        if self.auxiliary_head and (train or self.is_initializing()):
            logits["auxiliary"] = AuxiliaryHead(
                num_classes=self.num_classes,
                dropout_rate=self.dropout_rate,
                dtype=self.dtype,
                implementation=self.implementation,
                name="auxiliary_head",
            )(layer3, train=train)
        return logits
