"""A map normalised by its own statistics, and the gradient of that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax.ops.batch_norm import normalize, scale_and_shift, statistics
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


def test_the_gradient_keeps_the_map_and_nothing_else_of_its_size():
    x = normal(2, 8, 8, 4)

    def normalized(x, scale, bias):
        return normalize(x, *statistics(jax.lax.stop_gradient(x)), scale, bias, EPSILON)

    _, transposed = jax.vjp(normalized, x, jnp.ones(4), jnp.zeros(4))
    kept = [leaf for leaf in jax.tree.leaves(transposed) if leaf.size >= x.size]
    assert len(kept) == 1
    np.testing.assert_array_equal(kept[0], x)
