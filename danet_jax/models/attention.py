"""Position and channel attention of DANet (Fu et al., CVPR 2019, section 3)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.models.layers import HEAD_INIT, Conv
from danet_jax.ops.implementation import Implementation
from danet_jax.ops.position_attention import position_attention

CHANNEL_ENERGIES = ("max_minus", "plain")


class PositionAttention(nn.Module):
    """Section 3.2: each position gathers values from all positions that its query resembles.

    output = gamma * softmax(query · keyᵀ) · value + input. Gamma is 0 at the start; queries and
    keys have c / 8 channels.
    """

    dtype: jnp.dtype
    implementation: Implementation

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        project = functools.partial(
            Conv, kernel_size=1, use_bias=True, dtype=self.dtype, kernel_init=HEAD_INIT
        )
        query = project(max(c // 8, 1), name="query")(x).reshape(b, h * w, -1)
        key = project(max(c // 8, 1), name="key")(x).reshape(b, h * w, -1)
        value = project(c, name="value")(x).reshape(b, h * w, c)
        gamma = self.param("gamma", nn.initializers.zeros, (), jnp.float32).astype(self.dtype)
        attended = position_attention(query, key, value, implementation=self.implementation)
        return gamma * attended.reshape(x.shape) + x


class ChannelAttention(nn.Module):
    """Section 3.3: each channel becomes a weighted sum of all channels.

    The weights follow the similarity of their maps ("plain"), or their dissimilarity ("max_minus",
    as in the published networks).

    output = gamma * attended + input. Gamma is 0 at the start.
    """

    energy: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        gamma = self.param("gamma", nn.initializers.zeros, (), jnp.float32).astype(self.dtype)
        attended = channel_attention(x.reshape(b, h * w, c), energy=self.energy)
        return gamma * attended.reshape(x.shape) + x


def channel_attention(
    features: Float[Array, "b n c"], *, energy: str = "max_minus"
) -> Float[Array, "b n c"]:
    """Returns softmax(energies of all pairs of channels) applied to the channels.

    "max_minus" is what the code behind the published numbers computes, softmax over (row maximum -
    energy), so that a channel gathers those it is least like; "plain" is the softmax of the paper's
    equation 3.
    """
    if energy not in CHANNEL_ENERGIES:
        raise ValueError(f"energy is {energy!r}; give one of {CHANNEL_ENERGIES}")
    # The softmax is sensitive to these sums over thousands of positions: rounding to TF32 would
    # change it visibly. The product with the values is a weighted mean and has no such need.
    precision = jax.lax.Precision.HIGHEST if features.dtype == jnp.float32 else None
    # [b, c, d]
    energies = jnp.einsum(
        "bnc,bnd->bcd",
        features,
        features,
        precision=precision,
        preferred_element_type=jnp.promote_types(features.dtype, jnp.float32),
    )
    if energy == "max_minus":
        energies = jnp.max(energies, axis=-1, keepdims=True) - energies
    attention = jax.nn.softmax(energies, axis=-1).astype(features.dtype)
    # [b, n, c]
    return jnp.einsum("bcd,bnd->bnc", attention, features)
