"""The Dual Attention Network (Fu et al., CVPR 2019) and its ablations."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float, UInt8

from danet_jax import parallel
from danet_jax.images import MEAN, STD
from danet_jax.models.attention import (
    channel_attention,
    chunked_position_attention,
    energy_budget,
    position_attention,
    too_large,
)
from danet_jax.models.convolution import HEAD_INIT, Conv
from danet_jax.models.model_config import ATTENTIONS, check_model_config
from danet_jax.models.normalization import BatchNorm
from danet_jax.models.resize import interpolation_matrix, mixed, resize_bilinear
from danet_jax.models.resnet import RESNETS, ResNet

BACKBONE = "backbone"
PUBLISHED_MULTI_GRID = (4, 8, 16)
# Rows of an image of which all classes' logits are held at once.
LABEL_ROWS = 64


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
    weight_gradient: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w d"]:
        conv = functools.partial(Conv, dtype=self.dtype, weight_gradient=self.weight_gradient)
        x = conv(self.features, 3, kernel_init=HEAD_INIT, name="conv")(x)
        return nn.relu(BatchNorm(dtype=self.dtype, name="bn")(x, train=train))


class PositionAttention(nn.Module):
    """gamma * attention + input, gamma 0 at the start; queries and keys have c / 8 channels."""

    form: str
    energy_memory: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        project = functools.partial(
            Conv, kernel_size=1, use_bias=True, dtype=self.dtype, kernel_init=HEAD_INIT
        )
        query = project(max(c // 8, 1), name="query")(x).reshape(b, h * w, -1)
        key = project(max(c // 8, 1), name="key")(x).reshape(b, h * w, -1)
        value = project(c, name="value")(x).reshape(b, h * w, c)
        gamma = self.param("gamma", nn.initializers.zeros, ()).astype(self.dtype)
        attend = position_attention
        budget = energy_budget(self.energy_memory, parallel.platform())
        if self.form == "chunked" or (self.form == "auto" and too_large(h * w, budget=budget)):
            attend = functools.partial(chunked_position_attention, budget=budget)
        return gamma * attend(query, key, value).reshape(x.shape) + x


class ChannelAttention(nn.Module):
    """gamma * attention + input, gamma 0 at the start."""

    energy: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        gamma = self.param("gamma", nn.initializers.zeros, ()).astype(self.dtype)
        attended = channel_attention(x.reshape(b, h * w, c), energy=self.energy)
        return gamma * attended.reshape(x.shape) + x


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

    With one attention or none there is one branch, which is the sum already: "fused" alone.
    """

    num_classes: int
    attention: tuple[str, ...]
    position_attention: str
    energy_memory: int
    channel_energy: str
    dropout_rate: float
    dtype: jnp.dtype
    weight_gradient: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool
    ) -> dict[str, Float[Array, "b h w s"]]:
        features = x.shape[-1] // 4
        block = functools.partial(ConvNormRelu, features, self.dtype, self.weight_gradient)
        classify = functools.partial(Classifier, self.num_classes, self.dropout_rate, self.dtype)
        branches = {}
        if "position" in self.attention:
            y = block(name="position_in")(x, train=train)
            attend = PositionAttention(
                self.position_attention,
                self.energy_memory,
                self.dtype,
                name="position_attention",
            )
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
    """FCN head on layer 3, a help to training that prediction leaves out."""

    num_classes: int
    dropout_rate: float
    dtype: jnp.dtype
    weight_gradient: str

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w s"]:
        block = ConvNormRelu(x.shape[-1] // 4, self.dtype, self.weight_gradient, name="in")
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
    position_attention: str = "auto"
    energy_memory: int = 0
    channel_energy: str = "max_minus"
    dropout_rate: float = 0.1
    align_corners: bool = True
    auxiliary_head: bool = False
    remat: str = "auto"
    conv_weight_gradient: str = "auto"
    dtype: jnp.dtype = jnp.float32

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
            weight_gradient=self.conv_weight_gradient,
            remat=self.remat,
            name=BACKBONE,
        )(normalize(image).astype(self.dtype), train=train)
        logits = DANetHead(
            self.num_classes,
            self.attention,
            self.position_attention,
            self.energy_memory,
            self.channel_energy,
            self.dropout_rate,
            self.dtype,
            self.conv_weight_gradient,
            name="head",
        )(layer4, train=train)
        if self.auxiliary_head and (train or self.is_initializing()):
            auxiliary = AuxiliaryHead(
                self.num_classes,
                self.dropout_rate,
                self.dtype,
                self.conv_weight_gradient,
                name="auxiliary_head",
            )
            logits["auxiliary"] = auxiliary(layer3, train=train)
        return logits


def full_logits(
    model: DANet,
    variables: dict,
    images: UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"],
) -> Float[Array, "b h w s"]:
    """Returns the prediction's logits at the images' size."""
    logits: Any = model.apply(variables, images, train=False)
    size = (images.shape[1], images.shape[2])
    return resize_bilinear(logits["fused"], size, align_corners=model.align_corners)


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
    return labels_by_rows(coarse, rows, columns)


def labels_by_rows(
    coarse: Float[Array, "b h w s"], rows: Float[Array, "H h"], columns: Float[Array, "W w"]
) -> UInt8[Array, "b H W"]:
    """Returns the class with the highest logit at each pixel of resized logits.

    Logits are resized LABEL_ROWS rows at a time: all at once they would take
    4 * classes * height * width bytes.

    Args:
      coarse: the logits.
      rows: what each row is mixed of, see `interpolation_matrix`.
      columns: what each column is mixed of.
    """
    b, height, width = coarse.shape[0], rows.shape[0], columns.shape[0]
    blocks = -(-height // LABEL_ROWS)
    padded = jnp.pad(rows, ((0, blocks * LABEL_ROWS - height), (0, 0)))

    def block(rows):
        return jnp.argmax(mixed(coarse, rows, columns), axis=-1).astype(jnp.uint8)

    # [b, m, R, W]
    found = jnp.moveaxis(
        jax.lax.map(block, padded.reshape(blocks, LABEL_ROWS, coarse.shape[1])), 0, 1
    )
    return found.reshape(b, blocks * LABEL_ROWS, width)[:, :height]


def create_model(model_config: ml_collections.ConfigDict) -> DANet:
    """Returns the Linen module for `config.model`; a field's wrong value is a UserError."""
    check_model_config(model_config)
    # Left open, and nothing is known of crops.
    multi_grid = model_config["multi_grid"]
    multi_grid = PUBLISHED_MULTI_GRID if multi_grid is None else tuple(multi_grid)
    fields = dict(model_config)
    # What the network starts from is not what it is.
    del fields["pretrained_backbone"]
    fields |= {
        "attention": tuple(name for name in ATTENTIONS if name in model_config["attention"]),
        "multi_grid": multi_grid,
        "dtype": jnp.dtype(model_config["dtype"]),
    }
    return DANet(**fields)
