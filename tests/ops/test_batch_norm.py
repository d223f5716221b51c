"""A map normalised by its own statistics, and the gradient of that."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax.ops.batch_norm import normalize, scale_and_shift, statistics
from danet_jax.ops.shards import ONE_DEVICE, Shards
from danet_jax.planning.program import read_contents
from danet_jax.runtime import parallel
from tests.ops.arrays import normal

pytestmark = pytest.mark.usefixtures("light_compilation")

# Channel 0: 1, 3, 5, 7 (mean 4, biased variance 5); channel 1: four times 2.
BATCH = jnp.array([[[[1.0, 2.0], [3.0, 2.0]]], [[[5.0, 2.0], [7.0, 2.0]]]])
SCALE, BIAS = jnp.array([2.0, 3.0]), jnp.array([10.0, -1.0])
EPSILON = 1e-5


def test_values():
    mean, var = statistics(BATCH)
    np.testing.assert_allclose(mean, [4, 2], rtol=1e-6)
    np.testing.assert_allclose(var, [5, 0], rtol=1e-6)
    out = normalize(BATCH, mean, var, SCALE, BIAS, EPSILON)
    normal_0 = np.array([-3, -1, 1, 3]) / np.sqrt(5 + 1e-5)
    np.testing.assert_allclose(out[..., 0].ravel(), 10 + 2 * normal_0, rtol=1e-6)
    np.testing.assert_array_equal(out[..., 1].ravel(), -np.ones(4))


def test_a_mean_far_from_zero():
    # E[x²] - E[x]² in float32 would find no variance here.
    x = 1e4 + normal(4, 8, 8, 1)
    out = normalize(x, *statistics(x), jnp.ones(1), jnp.zeros(1), EPSILON)
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(out, (exact - exact.mean()) / exact.std(), atol=2e-3)


def test_bfloat16_is_counted_in_float32():
    x = jnp.asarray(normal(4, 16, 16, 2) + 3, jnp.bfloat16)
    mean, var = statistics(x)
    assert mean.dtype == var.dtype == jnp.float32
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(var, exact.var(axis=(0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_the_gradient_is_that_of_the_formula(offset):
    """Derived by JAX, through the statistics."""
    x, weights = offset + normal(2, 5, 4, 3), normal(2, 5, 4, 3, seed=1)
    scale, bias = 1 + 0.1 * normal(3, seed=2), normal(3, seed=3)

    def ours(x, scale, bias):
        mean, var = statistics(jax.lax.stop_gradient(x))
        return jnp.sum(weights * normalize(x, mean, var, scale, bias, EPSILON))

    def plain(x, scale, bias):
        return jnp.sum(weights * scale_and_shift(x, *statistics(x), scale, bias, EPSILON))

    found = jax.jit(jax.grad(ours, (0, 1, 2)))(x, scale, bias)
    with jax.enable_x64(True):
        exact = [jnp.asarray(array, jnp.float64) for array in (x, scale, bias)]
        expected = jax.jit(jax.grad(plain, (0, 1, 2)))(*exact)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.fixture(scope="module")
def mesh():
    return parallel.create_mesh(space=2, devices=jax.devices()[:8])


def by_devices(function, mesh, x, *others):
    """Compiles a function of a map that the devices share; returns it and its exchanges."""
    place = parallel.over_examples_and_rows(mesh)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)]
    shapes += [jax.ShapeDtypeStruct(y.shape, y.dtype) for y in others]
    compiled = jax.jit(function, out_shardings=parallel.replicated(mesh)).lower(*shapes).compile()
    exchanges = read_contents(compiled.as_text()).collectives
    kinds = collections.Counter()
    for exchange, count in exchanges.items():
        kinds[exchange.kind] += count
    placed = map(jax.device_put, (x, *others), compiled.input_shardings[0])
    return compiled(*placed), kinds


SHARDS = Shards(data=4, space=2)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_devices_exchange_their_statistics_once(mesh, offset):
    x = offset + normal(8, 6, 5, 3) * np.array([[[[1.0, 0.1, 10.0]]]], np.float32)
    (mean, var), kinds = by_devices(lambda x: statistics(x, SHARDS), mesh, x)
    assert sum(kinds.values()) <= 2
    # Two axes of a mesh are gathered one after the other on CPU.
    assert set(kinds) == {"all-gather"}
    exact = np.asarray(x, np.float64)
    one_mean, one_var = jax.jit(statistics)(x)
    for merged, alone, right in (
        (mean, one_mean, exact.mean(axis=(0, 1, 2))),
        (var, one_var, exact.var(axis=(0, 1, 2))),
    ):
        # As near to the exact value as one device comes, where the mean is far from zero, too.
        error, usual = (np.abs(np.asarray(value, np.float64) - right) for value in (merged, alone))
        assert (error <= np.maximum(2 * usual, 1e-6 * np.abs(right))).all()


def test_devices_exchange_the_sums_of_the_gradient_once(mesh):
    x, weights = normal(8, 6, 5, 3), normal(8, 6, 5, 3, seed=1)
    scale, bias = 1 + 0.1 * normal(3, seed=2), normal(3, seed=3)

    def gradients(x, weights, scale, bias, shards=SHARDS):
        def loss(x, scale, bias):
            # The statistics come from outside, and with them their exchange.
            mean, var = (jnp.array(value, jnp.float32) for value in (0.1 * np.ones(3), np.ones(3)))
            return jnp.sum(weights * normalize(x, mean, var, scale, bias, EPSILON, shards))

        return jax.grad(loss, (0, 1, 2))(x, scale, bias)[1:]

    merged, kinds = by_devices(gradients, mesh, x, weights, scale, bias)
    assert kinds == {"all-reduce": 1}
    alone = jax.jit(functools.partial(gradients, shards=ONE_DEVICE))(x, weights, scale, bias)
    for a, b in zip(merged, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_maps_that_do_not_divide_are_normalised_by_the_plain_formula():
    x = normal(3, 5, 4, 2)
    np.testing.assert_array_equal(statistics(x, SHARDS), statistics(x))


def test_a_narrow_map_and_its_gradient_stay_narrow():
    x = jnp.asarray(normal(2, 4, 4, 3), jnp.bfloat16)
    out, transposed = jax.vjp(
        lambda x: normalize(x, *statistics(x), jnp.ones(3), jnp.zeros(3), EPSILON), x
    )
    assert out.dtype == jnp.bfloat16
    assert transposed(out)[0].dtype == jnp.bfloat16


def test_the_gradient_keeps_the_map_and_nothing_else_of_its_size():
    x = normal(2, 8, 8, 4)

    def normalized(x, scale, bias):
        return normalize(x, *statistics(jax.lax.stop_gradient(x)), scale, bias, EPSILON)

    _, transposed = jax.vjp(normalized, x, jnp.ones(4), jnp.zeros(4))
    kept = [leaf for leaf in jax.tree.leaves(transposed) if leaf.size >= x.size]
    assert len(kept) == 1
    np.testing.assert_array_equal(kept[0], x)
