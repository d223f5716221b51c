"""Position and channel attention of DANet (CVPR 2019, section 3) on flattened feature maps."""

import functools
from collections.abc import Callable

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
# Queries and keys of a tile on CPU, whose energies become attention while a cache holds them.
TILE_QUERIES, TILE_KEYS = 1024, 2048


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
    """The same as `position_attention`, some energies at a time, also in the gradient.

    A chunk of whole rows takes a part of the budget, in bytes and for one image, as the gradient
    holds some of them. On CPU the values come from tiles of rows and columns, which is faster.
    """
    known = all(isinstance(size, int) for size in (*query.shape, *key.shape))
    if jax.default_backend() == "cpu" and known:
        return _by_tiles(budget, query, key, value)
    return _by_rows(budget, query, key, value)


def _by_rows(
    budget: int,
    query: Float[Array, "b q d"],
    key: Float[Array, "b k d"],
    value: Float[Array, "b k c"],
) -> Float[Array, "b q c"]:
    """A whole row of keys fits, so the softmax needs no running maximum."""
    b, q, _ = query.shape
    rows = SYMBOLIC_CHUNK_ROWS
    if isinstance(b, int) and isinstance(q, int):
        rows = min(max(budget // CHUNK_SHARE // (4 * key.shape[1]), 1), q)
    attend = jax.checkpoint(lambda part: position_attention(part, key, value))
    return _mapped(attend, query, rows)


def _mapped(attend: Callable, query: Float[Array, "b q d"], rows: int) -> Float[Array, "b q c"]:
    """Applies a function to that many rows of queries at a time."""
    b, q, d = query.shape
    chunks = -(-q // rows)
    padded = jnp.pad(query, ((0, 0), (0, chunks * rows - q), (0, 0)))
    # [m, b, r, d]
    split = jnp.moveaxis(padded.reshape(b, chunks, rows, d), 1, 0)
    # [b, m, r, c]
    attended = jnp.moveaxis(jax.lax.map(attend, split), 0, 1)
    return attended.reshape(b, chunks * rows, attended.shape[-1])[:, :q]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _by_tiles(
    budget: int,
    query: Float[Array, "b q d"],
    key: Float[Array, "b k d"],
    value: Float[Array, "b k c"],
) -> Float[Array, "b q c"]:
    """Softmax with a running maximum, as the keys come tile by tile."""
    b, k, _ = key.shape
    tile = min(TILE_KEYS, k)
    dtype = jnp.promote_types(query.dtype, jnp.float32)

    def attend(part):
        def take(so_far, start, size=tile):
            maximum, total, attended = so_far
            tile_key, tile_value = (
                jax.lax.dynamic_slice_in_dim(array, start, size, axis=1) for array in (key, value)
            )
            # [b, r, t]
            energy = jnp.einsum("brd,btd->brt", part, tile_key, preferred_element_type=dtype)
            higher = jnp.maximum(maximum, jnp.max(energy, axis=-1, keepdims=True))
            weight, faded = jnp.exp(energy - higher), jnp.exp(maximum - higher)
            gathered = jnp.einsum(
                "brt,btc->brc",
                weight.astype(value.dtype),
                tile_value,
                preferred_element_type=dtype,
            )
            total = faded * total + jnp.sum(weight, axis=-1, keepdims=True)
            return (higher, total, faded * attended + gathered), None

        column = (b, part.shape[1], 1)
        so_far = (
            jnp.full(column, -jnp.inf, dtype),
            jnp.zeros(column, dtype),
            jnp.zeros((*column[:2], value.shape[-1]), dtype),
        )
        count, rest = divmod(k, tile)
        so_far, _ = jax.lax.scan(take, so_far, tile * jnp.arange(count))
        if rest:
            so_far, _ = take(so_far, k - rest, rest)
        _, total, attended = so_far
        return (attended / total).astype(value.dtype)

    return _mapped(attend, query, min(TILE_QUERIES, query.shape[1]))


def _by_tiles_forward(
    budget: int, *arrays: Array
) -> tuple[Float[Array, "b q c"], tuple[Array, ...]]:
    return _by_tiles(budget, *arrays), arrays


def _by_tiles_backward(
    budget: int, arrays: tuple[Array, ...], gradient: Float[Array, "b q c"]
) -> tuple[Array, ...]:
    _, transposed = jax.vjp(functools.partial(_by_rows, budget), *arrays)
    return transposed(gradient)


_by_tiles.defvjp(_by_tiles_forward, _by_tiles_backward)


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
