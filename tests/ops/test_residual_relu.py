"""The sum and ReLU that end a residual block."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax.ops.residual_relu import residual_relu


@pytest.mark.parametrize("materialized", [False, True])
@pytest.mark.parametrize("height", [16, 14, 11])
def test_sums_and_gradients(height, materialized):
    x, y = np.random.default_rng(0).standard_normal((2, 3, height, 5, 4)).astype(np.float32)
    add = jax.jit(functools.partial(residual_relu, materialized=materialized))
    assert ("optimization_barrier" in str(jax.make_jaxpr(add)(x, y))) == materialized
    np.testing.assert_array_equal(add(x, y), np.maximum(x + y, 0))
    gradients = jax.grad(lambda x, y: jnp.sum(add(x, y) ** 2), (0, 1))(x, y)
    for gradient in gradients:
        np.testing.assert_allclose(gradient, 2 * np.maximum(x + y, 0), rtol=1e-6)


@pytest.mark.parametrize("materialized", [False, True])
def test_the_gradient_reads_the_output_alone(materialized):
    x, y = np.random.default_rng(0).standard_normal((2, 1, 4, 4, 2)).astype(np.float32)
    add = functools.partial(residual_relu, materialized=materialized)
    output, transposed = jax.vjp(add, jnp.asarray(x), jnp.asarray(y))
    (kept,) = (leaf for leaf in jax.tree.leaves(transposed) if leaf.size >= x.size)
    np.testing.assert_array_equal(kept, output)
