"""Position and channel attention of DANet (CVPR 2019, section 3) on flattened feature maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

POSITION_FORMS = ("auto", "full", "chunked")
CHANNEL_ENERGIES = ("max_minus", "plain")

# Energies of one image, of which more are computed chunk by chunk, and the chunk's own.
LARGEST_ENERGY_BYTES = 512 * 2**20
CHUNK_BYTES = 64 * 2**20
# Rows of a chunk where `jax.export` leaves the sizes open.
SYMBOLIC_CHUNK_ROWS = 256


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


def too_large(positions: int) -> bool:
    """True where one image's energies pass LARGEST_ENERGY_BYTES: above some 11 600 positions."""
    return 4 * positions**2 > LARGEST_ENERGY_BYTES


def chunked_position_attention(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"]
) -> Float[Array, "b q c"]:
    """The same as `position_attention`, some rows of energies at a time, also in the gradient.

    A whole row of keys fits, so the softmax needs no running maximum.
    """
    b, q, d = query.shape
    known = isinstance(b, int) and isinstance(q, int)
    rows = max(CHUNK_BYTES // (4 * b * key.shape[1]), 1) if known else SYMBOLIC_CHUNK_ROWS
    chunks = -(-q // rows)
    padded = jnp.pad(query, ((0, 0), (0, chunks * rows - q), (0, 0)))
    # [m, b, r, d]
    split = jnp.moveaxis(padded.reshape(b, chunks, rows, d), 1, 0)
    attend = jax.checkpoint(lambda part: position_attention(part, key, value))
    # [b, m, r, c]
    attended = jnp.moveaxis(jax.lax.map(attend, split), 0, 1)
    return attended.reshape(b, chunks * rows, value.shape[-1])[:, :q]


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
