"""Position and channel attention of DANet (CVPR 2019, section 3) on flattened feature maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CHANNEL_ENERGIES = ("max_minus", "plain")


def position_attention(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"]
) -> Float[Array, "b q c"]:
    """Each query position gathers values from all positions.

    The energies are not divided by sqrt(d): the published weights were trained without. Energies
    and softmax are float32 for narrower inputs.
    """
    # [b, q, k]
    energy = jnp.einsum(
        "bqd,bkd->bqk",
        query,
        key,
        preferred_element_type=jnp.promote_types(query.dtype, jnp.float32),
    )
    attention = jax.nn.softmax(energy, axis=-1).astype(value.dtype)
    # [b, q, c]
    return jnp.einsum("bqk,bkc->bqc", attention, value)


def channel_attention(
    features: Float[Array, "b n c"], *, energy: str = "max_minus"
) -> Float[Array, "b n c"]:
    """Each channel gathers the channels that it resembles least ("max_minus") or most ("plain").

    "max_minus" is what the code behind the published numbers computes, softmax over
    (row maximum - energy); "plain" is the softmax of the paper's equation 3.
    """
    # Sums over thousands of positions: anything below full float32 moves the softmax.
    precision = jax.lax.Precision.HIGHEST if features.dtype == jnp.float32 else None
    # [b, c, d]
    resemblance = jnp.einsum(
        "bnc,bnd->bcd",
        features,
        features,
        precision=precision,
        preferred_element_type=jnp.promote_types(features.dtype, jnp.float32),
    )
    if energy == "max_minus":
        resemblance = jnp.max(resemblance, axis=-1, keepdims=True) - resemblance
    attention = jax.nn.softmax(resemblance, axis=-1).astype(features.dtype)
    # [b, n, c]
    return jnp.einsum("bcd,bnd->bnc", attention, features)
