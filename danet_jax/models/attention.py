"""Position and channel attention of DANet (CVPR 2019, section 3) on flattened feature maps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

POSITION_FORMS = ("auto", "full", "chunked")
CHANNEL_ENERGIES = ("max_minus", "plain")

# MiB that one image's energies may take before "auto" computes them chunk by chunk, and the share
# of it that a chunk takes. On CPU the smaller form is also the faster one.
DEFAULT_ENERGY_MEMORY = {"cpu": 128, "gpu": 512, "tpu": 512}
CHUNK_SHARE = 8
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


def energy_budget(mebibytes: int, platform: str) -> int:
    """Returns the bytes that one image's energies may take; 0 stands for the platform's default."""
    return (mebibytes or DEFAULT_ENERGY_MEMORY.get(platform, 512)) * 2**20


def too_large(positions: int, *, budget: int) -> bool:
    """True where the energies of so many positions pass the budget in bytes."""
    return 4 * positions**2 > budget


def chunked_position_attention(
    query: Float[Array, "b q d"],
    key: Float[Array, "b k d"],
    value: Float[Array, "b k c"],
    *,
    budget: int,
) -> Float[Array, "b q c"]:
    """The same as `position_attention`, some rows of energies at a time, also in the gradient.

    A whole row of keys fits, so the softmax needs no running maximum. A chunk takes a part of the
    budget, in bytes and for one image, as the gradient holds some of them.
    """
    b, q, d = query.shape
    known = isinstance(b, int) and isinstance(q, int)
    rows = SYMBOLIC_CHUNK_ROWS
    if known:
        rows = min(max(budget // CHUNK_SHARE // (4 * key.shape[1]), 1), q)
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
