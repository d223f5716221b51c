"""Position attention in all its forms: at once, by rows, by tiles."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax import platform
from danet_jax.configs import common
from danet_jax.ops import position_attention as ops
from danet_jax.ops.implementation import Implementation
from danet_jax.ops.position_attention import position_attention
from danet_jax.platform import Target
from danet_jax.runtime import parallel
from tests.ops.arrays import normal, position_reference

pytestmark = pytest.mark.usefixtures("light_compilation")

FLOAT32 = jnp.dtype("float32")
TILES = functools.partial(
    position_attention, implementation=Implementation(position_attention="tiles")
)


def test_it_gathers_by_unscaled_softmax():
    query, key, value = normal(2, 6, 3), normal(2, 5, 3, seed=1), normal(2, 5, 4, seed=2)
    np.testing.assert_allclose(
        position_attention(query, key, value),
        position_reference(query, key, value),
        rtol=1e-5,
        atol=1e-6,
    )


def test_that_of_one_overwhelming_key_is_its_value():
    key = jnp.zeros((1, 4, 2)).at[0, 2].set(100.0)
    value = normal(1, 4, 3)
    attended = position_attention(jnp.ones((1, 1, 2)), key, value)
    np.testing.assert_array_equal(attended[0, 0], value[0, 2])


def test_bfloat16_energies_and_softmax_are_float32():
    # Energies 64 and 64.25 are one and the same number in bfloat16.
    query = jnp.ones((1, 1, 2), jnp.bfloat16)
    key = jnp.array([[[64, 0], [64, 0.25]]], jnp.bfloat16)
    value = jnp.array([[[0.0], [1.0]]], jnp.bfloat16)
    attended = position_attention(query, key, value)
    assert attended.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(attended[0, 0, 0]), 1 / (1 + np.exp(-0.25)), atol=2e-3)


@pytest.mark.parametrize("form", ["full", "rows", "tiles"])
def test_float32_energies_are_not_rounded_on_accelerators(form):
    """Which the precision of their products says; on a CPU no number shows it."""
    attend = functools.partial(
        position_attention,
        implementation=Implementation(
            position_attention=form, full_attention_bytes=0, attention_row_bytes=4 * 6 * 2
        ),
    )

    def loss(query, key, value):
        return jnp.sum(attend(query, key, value))

    # The number of channels tells the products of queries and keys from those with the values.
    arrays = normal(1, 6, 3), normal(1, 6, 3, seed=1), normal(1, 6, 5, seed=2)
    for dtype, name in ((jnp.float32, "f32"), (jnp.bfloat16, "bf16")):
        program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*(x.astype(dtype) for x in arrays))
        two_of_queries = re.compile(
            rf"dot_general .*\(tensor<\S*x3x{name}>, tensor<\S*x3x{name}>\)"
        )
        energies = [line for line in program.as_text().splitlines() if two_of_queries.search(line)]
        assert energies
        for line in energies:
            assert ("[HIGHEST, HIGHEST]" in line) == (name == "f32"), line


def test_gradients_stay_finite_for_large_energies():
    features = normal(1, 9, 4, scale=30)
    # Rows of one length attend to themselves alone.
    features *= 30 / jnp.linalg.norm(features, axis=-1, keepdims=True)
    gradient = jax.grad(lambda x: jnp.sum(position_attention(x, x, x) ** 2))(features)
    np.testing.assert_allclose(gradient, 2 * features, rtol=1e-4)


@pytest.mark.parametrize("form", ["tiles", "rows"])
def test_parts_give_the_same_values_and_gradients(form, monkeypatch):
    # Tiles of 8 x 6 and 3 of 20 rows at a time, so that the last ones are filled up or smaller.
    monkeypatch.setattr(ops, "TILE_QUERIES", 8)
    monkeypatch.setattr(ops, "TILE_KEYS", 6)
    in_parts = functools.partial(
        position_attention,
        implementation=Implementation(position_attention=form, attention_row_bytes=4 * 20 * 3),
    )
    arrays = (normal(2, 20, 4), normal(2, 20, 4, seed=1), normal(2, 20, 8, seed=2))
    weight = normal(2, 20, 8, seed=3)

    def run(function):
        gradient = jax.grad(lambda a: jnp.sum(weight * function(*a)))
        return jax.jit(lambda a: (function(*a), gradient(a)))(arrays)

    energies = {"tiles": "f32[2,8,6]", "rows": "f32[2,3,20]"}
    assert energies[form] in str(jax.make_jaxpr(in_parts)(*arrays))
    for ours, theirs in zip(
        jax.tree.leaves(run(in_parts)),
        jax.tree.leaves(run(position_attention)),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "energy_memory", "positions", "is_divided"),
    [
        ("gpu", 0, (768 // 8) ** 2, False),
        ("gpu", 0, (1024 // 8) * (2048 // 8), True),
        ("tpu", 0, (768 // 8) ** 2, False),
        ("cpu", 0, (768 // 8) ** 2, True),
        ("cpu", 400, (768 // 8) ** 2, False),
    ],
)
def test_energies_beyond_the_budget_are_computed_in_parts(
    name, energy_memory, positions, is_divided
):
    config = common.get_config().model
    config.energy_memory = energy_memory
    found = platform.implementation(config, Target(name))
    if not energy_memory and name != "cpu":
        assert found.full_attention_bytes == 512 * 2**20
    array = jax.ShapeDtypeStruct((1, positions, 8), jnp.float32)
    attend = functools.partial(position_attention, implementation=found)
    program = str(jax.make_jaxpr(attend)(array, array, array))
    assert ("scan[" in program) == is_divided
    assert (f"f32[1,{positions},{positions}]" in program) == (not is_divided)


def test_full_is_full_whatever_the_size():
    forced = Implementation(position_attention="full", full_attention_bytes=1)
    arrays = (normal(1, 20, 4), normal(1, 20, 4, seed=1), normal(1, 20, 8, seed=2))
    program = jax.make_jaxpr(functools.partial(position_attention, implementation=forced))(*arrays)
    assert "scan[" not in str(program)


def test_sizes_that_are_left_open_are_computed_by_rows():
    """An exported program takes images of all sizes."""
    b, n = jax.export.symbolic_shape("b, n")
    by_rows = Implementation(position_attention="rows", full_attention_bytes=2**40)
    attend = functools.partial(position_attention, implementation=by_rows)
    arrays = [jax.ShapeDtypeStruct((b, n, c), jnp.float32) for c in (4, 4, 8)]
    exported = jax.export.export(jax.jit(attend))(*arrays)
    # More than one part of queries, the last of which is filled up.
    arrays = [normal(2, 300, c, seed=c, scale=0.5) for c in (4, 4, 8)]
    assert ops.SYMBOLIC_ROWS < 300
    np.testing.assert_allclose(
        exported.call(*arrays), position_attention(*arrays), rtol=1e-5, atol=1e-5
    )


def test_tiles_hold_energies_that_grow_from_tile_to_tile(monkeypatch):
    monkeypatch.setattr(ops, "TILE_KEYS", 4)
    query, key = jnp.ones((1, 3, 1)), 60.0 * jnp.arange(12).reshape(1, 12, 1)
    value = normal(1, 12, 2)
    for keys in (key, key[:, ::-1]):
        attended = TILES(query, keys, value)
        expected = position_attention(query, keys, value)
        np.testing.assert_allclose(attended, expected, rtol=1e-6)


@pytest.mark.slow
def test_tiles_of_bfloat16_are_summed_in_float32(monkeypatch):
    """Sums over 80 tiles: in bfloat16 they would be off by several per cent."""
    monkeypatch.setattr(ops, "TILE_QUERIES", 4)
    monkeypatch.setattr(ops, "TILE_KEYS", 4)
    arrays = [normal(1, 320, c, seed=c).astype(jnp.bfloat16) for c in (4, 4, 8)]
    arrays[2] += 1
    weight = normal(1, 320, 8, seed=3).astype(jnp.bfloat16)

    def run(function, dtype):
        wide = [array.astype(dtype) for array in arrays]
        y, transposed = jax.vjp(function, *wide)
        found = (y, *transposed(weight.astype(dtype)))
        assert all(leaf.dtype == dtype for leaf in found)
        return [np.asarray(leaf, np.float32) for leaf in found]

    ours, expected = run(TILES, jnp.bfloat16), run(position_attention, FLOAT32)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=0.01 * np.abs(b).max())


@pytest.mark.slow
def test_tiles_spread_over_devices(monkeypatch):
    monkeypatch.setattr(ops, "TILE_QUERIES", 8)
    monkeypatch.setattr(ops, "TILE_KEYS", 6)
    arrays = [normal(4, 20, c, seed=c) for c in (4, 4, 8)]
    weight = normal(4, 20, 8, seed=3)

    def run(arrays, weight):
        y, transposed = jax.vjp(TILES, *arrays)
        return y, *transposed(weight)

    expected = jax.jit(run)(arrays, weight)
    mesh = parallel.create_mesh(space=2)
    with jax.set_mesh(mesh):
        place = jax.NamedSharding(mesh, jax.P(*parallel.AXES))
        found = jax.jit(run)(*jax.device_put((arrays, weight), place))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mebibytes", "largest", "of_gradient"),
    [(128, "f32[1,2304,2304]", "f32[1,2304,2304]"), (1, "f32[1,1024,2048]", "f32[1,2048,1024]")],
)
def test_tiles_are_the_largest_arrays_of_energies(mebibytes, largest, of_gradient):
    """By the arrays of energies in the program."""
    tiles = Implementation(position_attention="tiles", full_attention_bytes=mebibytes * 2**20)
    attend = functools.partial(position_attention, implementation=tiles)
    arrays = [normal(1, 2304, c) for c in (1, 1, 8)]
    forward = str(jax.make_jaxpr(attend)(*arrays))
    both = str(jax.make_jaxpr(jax.grad(lambda *a: jnp.sum(attend(*a)), (0, 1, 2)))(*arrays))
    assert largest in forward
    assert of_gradient in both
    for program in (forward, both):
        assert ("f32[1,2304,2304]" in program) == ("scan" not in program) == (mebibytes == 128)
