"""What the gradient computes anew, it computes the same, and it holds less memory meanwhile."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax import platform
from danet_jax.configs import common
from danet_jax.models.resnet import BasicBlock, Bottleneck
from danet_jax.ops.recompute import keep, recompute
from danet_jax.platform import Target

pytestmark = pytest.mark.usefixtures("light_compilation")

CPU = platform.implementation(common.get_config().model, Target("cpu"))


class Blocks(nn.Module):
    """Residual blocks with and without a stride, dilations and a convolution beside them."""

    extent: str
    block: type[nn.Module] = Bottleneck
    features: int = 8
    number: int = 3
    dtype: jnp.dtype = jnp.dtype("float32")

    @nn.compact
    def __call__(self, x):
        for index in range(self.number):
            x = recompute(self.block, self.extent)(
                features=self.features,
                stride=2 if index == 0 else 1,
                dilation=2 * index or 1,
                layer_dilation=2,
                dtype=self.dtype,
                implementation=CPU,
                name=f"block{index}",
            )(x, True)
        return x


def gradients(extent, shape, **fields):
    """A compiled function of variables and a map: both gradients, and the statistics.

    Beside it are the variables' shapes, and a map.
    """
    model = Blocks(extent, **fields)

    def loss(params, x, statistics):
        y, new = model.apply(
            {"params": params, "batch_stats": statistics}, x, mutable=["batch_stats"]
        )
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return jnp.sum(weights * y.astype(jnp.float32)), new["batch_stats"]

    @functools.partial(jax.jit, compiler_options=platform.compiler_options(Target("cpu")))
    def function(variables, x):
        return jax.grad(loss, (0, 1), has_aux=True)(
            variables["params"], x, variables["batch_stats"]
        )

    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
    return function, jax.eval_shape(model.init, jax.random.key(0), x), x


@functools.cache
def initial(block):
    """Variables of blocks, whatever is computed anew: to draw them is compiled once."""
    x = jnp.zeros((2, 13, 9, 16))
    return jax.jit(Blocks("none", block=block).init)(jax.random.key(0), x)


@functools.cache
def found(extent, dtype, block):
    """Leaves of the gradients and statistics, by their names."""
    function, shapes, x = gradients(extent, (2, 13, 9, 16), dtype=jnp.dtype(dtype), block=block)
    variables = initial(block)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    leaves = jax.tree.leaves_with_path(jax.device_get(function(variables, x)))
    return {jax.tree_util.keystr(path): np.float32(leaf) for path, leaf in leaves}


both_blocks = pytest.mark.parametrize("block", [Bottleneck, BasicBlock])
both_extents = pytest.mark.parametrize("extent", ["light", "block"])


@both_blocks
@both_extents
def test_blocks_have_the_same_gradients_and_statistics(extent, block):
    ours, expected = found(extent, "float32", block), found("none", "float32", block)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        assert np.linalg.norm(ours[name] - value) <= 2e-6 * np.linalg.norm(value), name


@both_blocks
@both_extents
def test_in_bfloat16_they_are_as_near_to_the_truth(extent, block):
    exact = found("none", "float32", block)

    def error(extent):
        leaves = found(extent, "bfloat16", block).items()
        return np.linalg.norm([np.linalg.norm(value - exact[name]) for name, value in leaves])

    assert 0 < error(extent) < 1.25 * error("none")


def temporaries(extent, **fields):
    function, variables, x = gradients(extent, (2, 64, 64, 128), features=32, number=6, **fields)
    return function.lower(variables, x).compile().memory_analysis().temp_size_in_bytes


def test_they_hold_less():
    none = temporaries("none")
    assert temporaries("light") < 0.75 * none
    assert temporaries("block") < 0.75 * none


def test_light_keeps_what_it_is_told_and_block_nothing():
    class Sines(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return jnp.cos(keep(jnp.sin(jnp.exp(x))))

    x = jnp.arange(3.0)

    def program(extent):
        function = jax.grad(lambda x: jnp.sum(recompute(Sines, extent)().apply({}, x, True)))
        np.testing.assert_allclose(
            function(x), -jnp.sin(jnp.sin(jnp.exp(x))) * jnp.cos(jnp.exp(x)) * jnp.exp(x), rtol=1e-5
        )
        return str(jax.make_jaxpr(function)(x))

    def count(extent):
        """How often the exponential is computed, and how often a sine."""
        return tuple(program(extent).count(f"= {name} ") for name in ("exp", "sin"))

    assert recompute(Sines, "none") is Sines
    # Of the sines one is the derivative of the cosine.
    assert count("none") == (1, 2)
    assert count("light") == (2, 2)
    assert count("block") == (2, 3)
