import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax.models import attention
from danet_jax.models.attention import (
    channel_attention,
    chunked_position_attention,
    energy_budget,
    position_attention,
    too_large,
)
from danet_jax.models.danet import ChannelAttention, PositionAttention
from danet_jax.runtime import parallel

pytestmark = pytest.mark.usefixtures("light_compilation")

FLOAT32 = jnp.dtype("float32")


def normal(*shape, seed=0, scale=1.0):
    generator = np.random.default_rng(seed)
    return jnp.asarray(scale * generator.standard_normal(shape), jnp.float32)


def softmax(energy):
    exponential = np.exp(energy - energy.max())
    return exponential / exponential.sum()


def position_reference(query, key, value):
    """One query at a time, in float64, as the paper's equation 1 and 2 say."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    out = np.zeros((*query.shape[:2], value.shape[2]))
    for b, n in np.ndindex(query.shape[:2]):
        energy = np.array([query[b, n] @ key[b, m] for m in range(key.shape[1])])
        out[b, n] = softmax(energy) @ value[b]
    return out


def channel_reference(features, *, energy):
    features = np.asarray(features, np.float64)
    out = np.zeros_like(features)
    for b, c in np.ndindex(features.shape[0], features.shape[2]):
        row = np.array([features[b, :, c] @ features[b, :, d] for d in range(features.shape[2])])
        weights = softmax(row.max() - row if energy == "max_minus" else row)
        out[b, :, c] = sum(weight * features[b, :, d] for d, weight in enumerate(weights))
    return out


def test_position_attention_gathers_by_unscaled_softmax():
    query, key, value = normal(2, 6, 3), normal(2, 5, 3, seed=1), normal(2, 5, 4, seed=2)
    np.testing.assert_allclose(
        position_attention(query, key, value),
        position_reference(query, key, value),
        rtol=1e-5,
        atol=1e-6,
    )


def test_position_attention_of_one_overwhelming_key_is_its_value():
    key = jnp.zeros((1, 4, 2)).at[0, 2].set(100.0)
    value = normal(1, 4, 3)
    attended = position_attention(jnp.ones((1, 1, 2)), key, value)
    np.testing.assert_array_equal(attended[0, 0], value[0, 2])


@pytest.mark.parametrize("energy", ["max_minus", "plain"])
def test_channel_attention_equals_its_definition(energy):
    features = normal(2, 7, 5, scale=0.5)
    np.testing.assert_allclose(
        channel_attention(features, energy=energy),
        channel_reference(features, energy=energy),
        rtol=1e-5,
        atol=1e-6,
    )


def test_the_two_channel_energies_prefer_opposite_channels():
    # Channels 0 and 1 point the same way, 2 the other.
    features = jnp.array([[[4.0, 4.0, -4.0]]])
    np.testing.assert_allclose(
        channel_attention(features, energy="plain")[0, 0], [4, 4, -4], rtol=1e-6
    )
    np.testing.assert_allclose(
        channel_attention(features, energy="max_minus")[0, 0], [-4, -4, 4], rtol=1e-6
    )


@pytest.mark.parametrize(
    "module",
    [
        PositionAttention(form="auto", energy_memory=0, dtype=FLOAT32),
        ChannelAttention("max_minus", dtype=FLOAT32),
    ],
    ids=["position", "channel"],
)
def test_gamma_weighs_attention_against_identity(module):
    x = normal(1, 2, 3, 16)
    variables = module.init(jax.random.key(0), x)
    assert float(variables["params"]["gamma"]) == 0.0
    np.testing.assert_array_equal(module.apply(variables, x), x)

    params = variables["params"] | {"gamma": jnp.float32(0.25)}
    flat = x.reshape(1, 6, 16)
    if "query" in params:

        def project(name):
            kernel, bias = (np.asarray(params[name][leaf]) for leaf in ("kernel", "bias"))
            return flat @ kernel[0, 0] + bias[None, None]

        assert project("query").shape[-1] == project("key").shape[-1] == 2
        attended = position_reference(project("query"), project("key"), project("value"))
    else:
        attended = channel_reference(flat, energy="max_minus")
    np.testing.assert_allclose(
        module.apply({"params": params}, x),
        0.25 * attended.reshape(x.shape) + x,
        rtol=1e-5,
        atol=1e-5,
    )


def test_bfloat16_energies_and_softmax_are_float32():
    # Energies 64 and 64.25 are one and the same number in bfloat16.
    query = jnp.ones((1, 1, 2), jnp.bfloat16)
    key = jnp.array([[[64, 0], [64, 0.25]]], jnp.bfloat16)
    value = jnp.array([[[0.0], [1.0]]], jnp.bfloat16)
    attended = position_attention(query, key, value)
    assert attended.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(attended[0, 0, 0]), 1 / (1 + np.exp(-0.25)), atol=2e-3)

    # Channels' products 65 = 64 + 1 and 65.25: a bfloat16 sum would be 65 and 65.
    features = jnp.array([[[8, 8], [1, 1.25]]], jnp.bfloat16)
    attended = channel_attention(features, energy="plain")
    assert attended.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        attended.astype(jnp.float32),
        channel_reference(features, energy="plain"),
        rtol=4e-3,
    )


@pytest.mark.parametrize("energy", ["max_minus", "plain"])
def test_gradients_stay_finite_for_large_energies(energy):
    features = normal(1, 9, 4, scale=30)
    gradient = jax.grad(lambda x: jnp.sum(channel_attention(x, energy=energy) ** 2))(features)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 1
    # Rows of one length attend to themselves alone.
    features *= 30 / jnp.linalg.norm(features, axis=-1, keepdims=True)
    gradient = jax.grad(lambda x: jnp.sum(position_attention(x, x, x) ** 2))(features)
    np.testing.assert_allclose(gradient, 2 * features, rtol=1e-4)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_chunks_give_the_same_values_and_gradients(platform, monkeypatch):
    # Tiles of 8 x 6 and 3 of 20 rows at a time, so that the last ones are filled up or smaller.
    monkeypatch.setattr(attention, "TILE_QUERIES", 8)
    monkeypatch.setattr(attention, "TILE_KEYS", 6)
    if platform != "cpu":
        monkeypatch.setattr(jax, "default_backend", lambda: platform)
    chunked = functools.partial(
        chunked_position_attention, budget=attention.CHUNK_SHARE * 4 * 20 * 3
    )
    arrays = (normal(2, 20, 4), normal(2, 20, 4, seed=1), normal(2, 20, 8, seed=2))
    weight = normal(2, 20, 8, seed=3)

    def run(function):
        gradient = jax.grad(lambda a: jnp.sum(weight * function(*a)))
        return jax.jit(lambda a: (function(*a), gradient(a)))(arrays)

    for ours, theirs in zip(
        jax.tree.leaves(run(chunked)),
        jax.tree.leaves(run(position_attention)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_energies_beyond_the_budget_are_computed_in_chunks():
    positions = (768 // 8) ** 2
    assert energy_budget(0, "gpu") == 512 * 2**20
    assert not too_large(positions, budget=energy_budget(0, "gpu"))
    assert too_large((1024 // 8) * (2048 // 8), budget=energy_budget(0, "gpu"))
    assert too_large(positions, budget=energy_budget(0, "cpu"))
    assert not too_large(positions, budget=energy_budget(400, "cpu"))


def test_tiles_hold_energies_that_grow_from_tile_to_tile(monkeypatch):
    monkeypatch.setattr(attention, "TILE_KEYS", 4)
    query, key = jnp.ones((1, 3, 1)), 60.0 * jnp.arange(12).reshape(1, 12, 1)
    value = normal(1, 12, 2)
    for keys in (key, key[:, ::-1]):
        attended = chunked_position_attention(query, keys, value, budget=2**20)
        expected = position_attention(query, keys, value)
        np.testing.assert_allclose(attended, expected, rtol=1e-6)


def test_tiles_of_bfloat16_are_summed_in_float32(monkeypatch):
    """Sums over 80 tiles: in bfloat16 they would be off by several per cent."""
    monkeypatch.setattr(attention, "TILE_QUERIES", 4)
    monkeypatch.setattr(attention, "TILE_KEYS", 4)
    arrays = [normal(1, 320, c, seed=c).astype(jnp.bfloat16) for c in (4, 4, 8)]
    arrays[2] += 1
    weight = normal(1, 320, 8, seed=3).astype(jnp.bfloat16)

    def run(function, dtype):
        wide = [array.astype(dtype) for array in arrays]
        y, transposed = jax.vjp(function, *wide)
        found = (y, *transposed(weight.astype(dtype)))
        assert all(leaf.dtype == dtype for leaf in found)
        return [np.asarray(leaf, np.float32) for leaf in found]

    chunked = functools.partial(chunked_position_attention, budget=2**20)
    ours, expected = run(chunked, jnp.bfloat16), run(position_attention, FLOAT32)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0.01 * np.abs(b).max())


def test_tiles_spread_over_devices(monkeypatch):
    monkeypatch.setattr(attention, "TILE_QUERIES", 8)
    monkeypatch.setattr(attention, "TILE_KEYS", 6)
    arrays = [normal(4, 20, c, seed=c) for c in (4, 4, 8)]
    weight = normal(4, 20, 8, seed=3)

    def run(arrays, weight):
        chunked = functools.partial(chunked_position_attention, budget=2**20)
        y, transposed = jax.vjp(chunked, *arrays)
        return y, *transposed(weight)

    expected = jax.jit(run)(arrays, weight)
    mesh = parallel.create_mesh(space=2)
    with jax.set_mesh(mesh):
        place = jax.NamedSharding(mesh, jax.P(*parallel.AXES))
        found = jax.jit(run)(*jax.device_put((arrays, weight), place))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("memory", "largest", "of_gradient"),
    [(0, "f32[1,2304,2304]", "f32[1,2304,2304]"), (1, "f32[1,1024,2048]", "f32[1,2048,1024]")],
)
def test_the_budget_decides_how_a_network_attends(memory, largest, of_gradient):
    """By the arrays of energies in the program."""
    module = PositionAttention(form="auto", energy_memory=memory, dtype=FLOAT32)
    x = normal(1, 48, 48, 8)
    variables = module.init(jax.random.key(0), normal(1, 2, 2, 8))
    forward = str(jax.make_jaxpr(lambda x: module.apply(variables, x))(x))
    both = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(module.apply(variables, x))))(x))
    assert largest in forward
    assert of_gradient in both
    for program in (forward, both):
        assert ("f32[1,2304,2304]" in program) == ("scan" not in program) == (memory == 0)
