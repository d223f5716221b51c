"""Position and channel attention of DANet (CVPR 2019, section 3) on flattened feature maps."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax import parallel

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
    holds some of them. On CPU, where the sizes are known, tiles of rows and columns are faster;
    theirs is 8 MiB whatever the budget.
    """
    known = all(isinstance(size, int) for size in (*query.shape, *key.shape))
    if parallel.platform() == "cpu" and known:
        return _by_tiles(query, key, value)
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
    return _joined(jax.lax.map(attend, _split(query, rows)), q)


@jax.custom_vjp
def _by_tiles(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"]
) -> Float[Array, "b q c"]:
    return _forward(query, key, value)[0]


def _forward(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"]
) -> tuple[Float[Array, "b q c"], tuple[Array, ...]]:
    """Softmax with a running maximum, as the keys come tile by tile."""
    b, q, _ = query.shape
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    rows, tile = min(TILE_QUERIES, q), min(TILE_KEYS, key.shape[1])

    def attend(part):
        def take(so_far, start, size=tile):
            maximum, total, attended = so_far
            tile_key, tile_value = (_slice(array, start, size) for array in (key, value))
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

        column = (b, rows, 1)
        so_far = (
            # Not -inf, whose difference to an energy that overflowed is not a number.
            jnp.full(column, jnp.finfo(dtype).min, dtype),
            jnp.zeros(column, dtype),
            jnp.zeros((b, rows, value.shape[-1]), dtype),
        )
        (maximum, total, attended), _ = _over_tiles(take, so_far, key.shape[1], tile)
        return attended / total, maximum + jnp.log(total)

    # [m, b, r, …]
    parts = jax.lax.map(attend, _split(query, rows))
    attended, logarithm = (_joined(part, q) for part in parts)
    return attended.astype(value.dtype), (query, key, value, attended, logarithm)


def _backward(saved: tuple[Array, ...], gradient: Float[Array, "b q c"]) -> tuple[Array, ...]:
    """Weights of a tile are computed again, from the logarithm of each row's sum."""
    query, key, value, attended, logarithm = saved
    q, dtype = query.shape[1], logarithm.dtype
    rows, tile = min(TILE_QUERIES, q), min(TILE_KEYS, key.shape[1])
    # What the softmax's gradient takes off each row: the sum of weights times their gradients.
    mean = jnp.sum(gradient.astype(dtype) * attended, axis=-1, keepdims=True)
    # [m, b, r, …]; the rows that fill up the last part have a gradient of 0.
    parts = tuple(_split(array, rows) for array in (query, gradient, logarithm, mean))

    def take(of_query, start, size=tile):
        tile_key, tile_value = (_slice(array, start, size) for array in (key, value))

        def add(sums, part):
            of_key, of_value = sums
            part_query, part_gradient, part_logarithm, part_mean = part
            dot = functools.partial(jnp.einsum, preferred_element_type=dtype)
            # Tiles are [b, t, r] here: all large products take their arrays as they lie.
            energy = dot("btd,brd->btr", tile_key, part_query)
            weight = jnp.exp(energy - jnp.swapaxes(part_logarithm, 1, 2))
            of_weight = dot("btc,brc->btr", tile_value, part_gradient)
            of_energy = weight * (of_weight - jnp.swapaxes(part_mean, 1, 2))
            of_energy = of_energy.astype(query.dtype)
            of_value += dot("btr,brc->btc", weight.astype(value.dtype), part_gradient)
            of_key += dot("btr,brd->btd", of_energy, part_query)
            return (of_key, of_value), dot("btr,btd->brd", of_energy, tile_key)

        zeros = tuple(jnp.zeros(x.shape, dtype) for x in (tile_key, tile_value))
        of_tile, more = jax.lax.scan(add, zeros, parts)
        return of_query + more, of_tile

    of_query = jnp.zeros(parts[0].shape, dtype)
    of_query, of_tiles = _over_tiles(take, of_query, key.shape[1], tile)
    of_key, of_value = of_tiles
    return (
        _joined(of_query, q).astype(query.dtype),
        of_key.astype(key.dtype),
        of_value.astype(value.dtype),
    )


_by_tiles.defvjp(_forward, _backward)


def _over_tiles(take: Callable, carry: Any, length: int, tile: int) -> tuple[Any, Any]:
    """Scans a length tile by tile, the last of which may be smaller; joins what comes out."""
    count, rest = divmod(length, tile)
    carry, out = jax.lax.scan(take, carry, tile * jnp.arange(count))
    out = jax.tree.map(lambda x: _joined(x, count * tile), out)
    if rest:
        carry, last = take(carry, length - rest, rest)
        out = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), out, last)
    return carry, out


def _slice(array: Float[Array, "b n c"], start: Any, size: int) -> Float[Array, "b t c"]:
    return jax.lax.dynamic_slice_in_dim(array, start, size, axis=1)


def _split(array: Float[Array, "b n c"], rows: int) -> Float[Array, "m b r c"]:
    """That many rows at a time, the last ones filled up with zeros."""
    b, n, c = array.shape
    parts = -(-n // rows)
    padded = jnp.pad(array, ((0, 0), (0, parts * rows - n), (0, 0)))
    return jnp.moveaxis(padded.reshape(b, parts, rows, c), 1, 0)


def _joined(parts: Float[Array, "m b r c"], n: int) -> Float[Array, "b n c"]:
    """The first n rows of what `_split` gives."""
    m, b, r, c = parts.shape
    return jnp.moveaxis(parts, 0, 1).reshape(b, m * r, c)[:, :n]


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
