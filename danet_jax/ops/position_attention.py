"""Softmax attention over all positions: energies at once, by rows, or by tiles.

The energies are not divided by sqrt(d): the published weights were trained without. Energies and
softmax are in float32 where the inputs are narrower. "Energy" is the paper's word for an attention
logit.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.ops.implementation import NATIVE, Implementation

# Rows of queries at a time where `jax.export` leaves the sizes open.
SYMBOLIC_ROWS = 256
# Queries and keys of a tile; its energies fit into the cache of a CPU.
TILE_QUERIES, TILE_KEYS = 1024, 2048


def position_attention(
    query: Float[Array, "b q d"],
    key: Float[Array, "b k d"],
    value: Float[Array, "b k c"],
    *,
    implementation: Implementation = NATIVE,
) -> Float[Array, "b q c"]:
    """Returns softmax(query · keyᵀ) · value: each query position gathers values from all positions.

    Args:
      query: [b, q, d].
      key: [b, k, d].
      value: [b, k, c].
      implementation: "full" materialises all q × k energies, "rows" those of a block of queries at
        a time, "tiles" those of a block of queries and a block of keys. The last two save memory
        in the backward pass, too.
    """
    if _fits_at_once(query.shape[1], key.shape[1], implementation):
        return full(query, key, value)
    if implementation.position_attention == "tiles":
        return by_tiles(query, key, value)
    return by_rows(query, key, value, implementation.attention_row_bytes)


def _fits_at_once(queries: Any, keys: Any, implementation: Implementation) -> bool:
    if implementation.position_attention == "full":
        return True
    # `jax.export` leaves sizes open.
    is_known = isinstance(queries, int) and isinstance(keys, int)
    return is_known and 4 * queries * keys <= implementation.full_attention_bytes


def full(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"]
) -> Float[Array, "b q c"]:
    """All energies at once: the definition, which the other forms equal but for rounding."""
    # [b, q, k]
    energy = _product("bqd,bkd->bqk", query, key)
    attention = jax.nn.softmax(energy, axis=-1).astype(value.dtype)
    # [b, q, c]
    return jnp.einsum("bqk,bkc->bqc", attention, value)


def by_rows(
    query: Float[Array, "b q d"],
    key: Float[Array, "b k d"],
    value: Float[Array, "b k c"],
    row_bytes: int,
) -> Float[Array, "b q c"]:
    """A block of queries at a time against all keys, so that no running maximum is needed."""
    b, q, _ = query.shape
    rows = SYMBOLIC_ROWS
    if isinstance(b, int) and isinstance(q, int):
        rows = min(max(row_bytes // (4 * key.shape[1]), 1), q)
    attend = jax.checkpoint(lambda part: full(part, key, value))
    return _join(jax.lax.map(attend, _split(query, rows)), q)


@jax.custom_vjp
def by_tiles(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"]
) -> Float[Array, "b q c"]:
    """Some queries and keys at a time, with the online softmax (Milakov and Gimelshein 2018).

    Forward and backward are those of FlashAttention (Dao et al. 2022, algorithms 1 and 4). All
    sizes have to be known.
    """
    return _forward(query, key, value)[0]


def _forward(
    query: Float[Array, "b q d"], key: Float[Array, "b k d"], value: Float[Array, "b k c"]
) -> tuple[Float[Array, "b q c"], tuple[Array, ...]]:
    b, q, _ = query.shape
    dtype = jnp.promote_types(query.dtype, jnp.float32)
    rows, tile = min(TILE_QUERIES, q), min(TILE_KEYS, key.shape[1])

    def attend(part):
        def add_tile(carry, start, size=tile):
            running_max, denominator, numerator = carry
            tile_key, tile_value = (_slice(array, start, size) for array in (key, value))
            # [b, r, t]
            energy = _product("brd,btd->brt", part, tile_key)
            new_max = jnp.maximum(running_max, jnp.max(energy, axis=-1, keepdims=True))
            weight, correction = jnp.exp(energy - new_max), jnp.exp(running_max - new_max)
            weighted = jnp.einsum(
                "brt,btc->brc",
                weight.astype(value.dtype),
                tile_value,
                preferred_element_type=dtype,
            )
            denominator = correction * denominator + jnp.sum(weight, axis=-1, keepdims=True)
            return (new_max, denominator, correction * numerator + weighted), None

        column = (b, rows, 1)
        carry = (
            # This is not -inf, since (-inf) - (-inf) would be nan.
            jnp.full(column, jnp.finfo(dtype).min, dtype),
            jnp.zeros(column, dtype),
            jnp.zeros((b, rows, value.shape[-1]), dtype),
        )
        (running_max, denominator, numerator), _ = _over_tiles(add_tile, carry, key.shape[1], tile)
        return numerator / denominator, running_max + jnp.log(denominator)

    # [m, b, r, …]
    parts = jax.lax.map(attend, _split(query, rows))
    output, logsumexp = (_join(part, q) for part in parts)
    return output.astype(value.dtype), (query, key, value, output, logsumexp)


def _backward(
    residuals: tuple[Array, ...], grad_output: Float[Array, "b q c"]
) -> tuple[Array, ...]:
    """Recomputes the softmax weights of each tile from the saved logsumexp of its rows."""
    query, key, value, output, logsumexp = residuals
    q, dtype = query.shape[1], logsumexp.dtype
    rows, tile = min(TILE_QUERIES, q), min(TILE_KEYS, key.shape[1])
    # D of FlashAttention's algorithm 4: the sum of a row's weights times their gradients.
    row_dot = jnp.sum(grad_output.astype(dtype) * output, axis=-1, keepdims=True)
    # [m, b, r, …]; the rows that fill up the last part have a gradient of 0.
    parts = tuple(_split(x, rows) for x in (query, grad_output, logsumexp, row_dot))

    def add_tile(grad_query, start, size=tile):
        tile_key, tile_value = (_slice(array, start, size) for array in (key, value))

        def add_rows(carry, part):
            grad_key, grad_value = carry
            part_query, part_grad, part_logsumexp, part_row_dot = part
            dot = functools.partial(jnp.einsum, preferred_element_type=dtype)
            # Tiles are [b, t, r] here, so that no large product needs a transposed copy.
            energy = _product("btd,brd->btr", tile_key, part_query)
            weight = jnp.exp(energy - jnp.swapaxes(part_logsumexp, 1, 2))
            grad_weight = dot("btc,brc->btr", tile_value, part_grad)
            grad_energy = weight * (grad_weight - jnp.swapaxes(part_row_dot, 1, 2))
            grad_energy = grad_energy.astype(query.dtype)
            grad_value += dot("btr,brc->btc", weight.astype(value.dtype), part_grad)
            grad_key += dot("btr,brd->btd", grad_energy, part_query)
            return (grad_key, grad_value), dot("btr,btd->brd", grad_energy, tile_key)

        zeros = tuple(jnp.zeros(x.shape, dtype) for x in (tile_key, tile_value))
        grads_of_tile, more = jax.lax.scan(add_rows, zeros, parts)
        return grad_query + more, grads_of_tile

    grad_query = jnp.zeros(parts[0].shape, dtype)
    grad_query, (grad_key, grad_value) = _over_tiles(add_tile, grad_query, key.shape[1], tile)
    return (
        _join(grad_query, q).astype(query.dtype),
        grad_key.astype(key.dtype),
        grad_value.astype(value.dtype),
    )


def _product(subscripts: str, one: Float[Array, "..."], other: Float[Array, "..."]) -> Array:
    """Energies: products that a softmax reads, in float32 or wider.

    They are not scaled down, so that rounding the factors to TF32 (GPU) or bfloat16 (TPU), which is
    what a product of float32 is by default there, would change the weights by some percent.
    """
    return jnp.einsum(
        subscripts,
        one,
        other,
        precision=None if one.dtype == jnp.bfloat16 else jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.promote_types(one.dtype, jnp.float32),
    )


by_tiles.defvjp(_forward, _backward)


def _over_tiles(add_tile: Callable, carry: Any, length: int, tile: int) -> tuple[Any, Any]:
    """Scans a length tile by tile, the last of which may be smaller; concatenates the outputs."""
    count, rest = divmod(length, tile)
    carry, out = jax.lax.scan(add_tile, carry, tile * jnp.arange(count))
    out = jax.tree.map(lambda x: _join(x, count * tile), out)
    if rest:
        carry, last = add_tile(carry, length - rest, rest)
        out = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), out, last)
    return carry, out


def _slice(array: Float[Array, "b n c"], start: Any, size: int) -> Float[Array, "b t c"]:
    return jax.lax.dynamic_slice_in_dim(array, start, size, axis=1)


def _split(array: Float[Array, "b n c"], rows: int) -> Float[Array, "m b r c"]:
    """Splits into m blocks of `rows` rows, the last one padded with zeros."""
    b, n, c = array.shape
    parts = -(-n // rows)
    padded = jnp.pad(array, ((0, 0), (0, parts * rows - n), (0, 0)))
    return jnp.moveaxis(padded.reshape(b, parts, rows, c), 1, 0)


def _join(parts: Float[Array, "m b r c"], n: Any) -> Float[Array, "b n c"]:
    """The first n rows of what `_split` gives; n may be symbolic."""
    m, b, r, c = parts.shape
    return jnp.moveaxis(parts, 0, 1).reshape(b, m * r, c)[:, :n]
