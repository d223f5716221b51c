"""What the gradient computes anew, it computes the same."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from danet_jax.models.recomputation import Pending, pending

from danet_jax.models.resnet import Bottleneck

pytestmark = pytest.mark.usefixtures("light_compilation")


class Blocks(nn.Module):
    """Bottlenecks with and without a stride, dilations and a convolution beside them."""

    light: bool
    features: int = 8
    number: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x):
        for index in range(self.number):
            block = functools.partial(
                Bottleneck, self.features, light=self.light, dtype=self.dtype, layer_dilation=2
            )
            dilation = 2 * index or 1
            x = block(2 if index == 0 else 1, dilation, weight_gradient="auto")(x, train=True)
        return x


def gradients(light, shape, **fields):
    """A compiled function of variables and a map: gradients by both, and the statistics."""
    model = Blocks(light, **fields)

    def loss(params, x, statistics):
        y, new = model.apply(
            {"params": params, "batch_stats": statistics}, x, mutable=["batch_stats"]
        )
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return jnp.sum(weights * y.astype(jnp.float32)), new["batch_stats"]

    @jax.jit
    def function(variables, x):
        return jax.grad(loss, (0, 1), has_aux=True)(
            variables["params"], x, variables["batch_stats"]
        )

    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    return function, variables, x


def found(light, dtype):
    """Leaves of the gradients and statistics, by their names."""
    function, variables, x = gradients(light, (2, 13, 9, 16), dtype=jnp.dtype(dtype))
    leaves = jax.tree.leaves_with_path(jax.device_get(function(variables, x)))
    return {jax.tree_util.keystr(path): np.float32(leaf) for path, leaf in leaves}


def test_light_bottlenecks_have_the_same_gradients_and_statistics():
    ours, expected = found(True, "float32"), found(False, "float32")
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert np.linalg.norm(ours[name] - value) <= 2e-6 * np.linalg.norm(value), name


def test_in_bfloat16_they_are_as_near_to_the_truth():
    exact = found(False, "float32")

    def error(light):
        of_leaves = [np.linalg.norm(v - exact[n]) for n, v in found(light, "bfloat16").items()]
        return np.linalg.norm(of_leaves)

    assert 0 < error(True) < 1.25 * error(False)


def test_light_bottlenecks_hold_less():
    temporaries = {}
    for light in (False, True):
        function, variables, x = gradients(light, (2, 64, 64, 128), features=32, number=6)
        analysis = function.lower(variables, x).compile().memory_analysis()
        temporaries[light] = analysis.temp_size_in_bytes
    assert temporaries[True] < 0.75 * temporaries[False]


def test_what_is_pending_is_composed():
    x, y = jnp.arange(3.0), jnp.array([2.0, 0.0, 1.0])
    made = pending(x).then(jnp.multiply, y).then(jnp.sin)
    assert isinstance(made, Pending)
    np.testing.assert_allclose(made.value(), jnp.sin(x * y))
    np.testing.assert_array_equal(made.peek(), made.value())

    def through(get):
        def total(x, y):
            made = pending(x).then(jnp.multiply, y).then(jnp.sin)
            return getattr(made, get)().sum()

        return jax.grad(total, (0, 1))(x, y)

    np.testing.assert_allclose(through("value"), (y * jnp.cos(x * y), x * jnp.cos(x * y)))
    np.testing.assert_array_equal(through("peek"), np.zeros((2, 3)))
