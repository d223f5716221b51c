"""The modules of position and channel attention, and channel attention itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax import platform
from danet_jax.configs import common
from danet_jax.models.attention import ChannelAttention, PositionAttention, channel_attention
from danet_jax.platform import Target
from tests.ops.arrays import normal, position_reference, softmax

pytestmark = pytest.mark.usefixtures("light_compilation")

FLOAT32 = jnp.dtype("float32")


def position_module(energy_memory=0):
    """What `config.model` asks for on CPU."""
    config = common.get_config().model
    config.energy_memory = energy_memory
    return PositionAttention(FLOAT32, platform.implementation(config, Target("cpu")))


def channel_reference(features, *, energy):
    features = np.asarray(features, np.float64)
    out = np.zeros_like(features)
    for b, c in np.ndindex(features.shape[0], features.shape[2]):
        row = np.array([features[b, :, c] @ features[b, :, d] for d in range(features.shape[2])])
        weights = softmax(row.max() - row if energy == "max_minus" else row)
        out[b, :, c] = sum(weight * features[b, :, d] for d, weight in enumerate(weights))
    return out


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
        position_module(),
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


@pytest.mark.parametrize(
    ("memory", "largest", "of_gradient"),
    [(0, "f32[1,2304,2304]", "f32[1,2304,2304]"), (1, "f32[1,1024,2048]", "f32[1,2048,1024]")],
)
def test_the_budget_decides_how_a_network_attends(memory, largest, of_gradient):
    """By the arrays of energies in the program."""
    module = position_module(memory)
    x = normal(1, 48, 48, 8)
    variables = module.init(jax.random.key(0), normal(1, 2, 2, 8))
    forward = str(jax.make_jaxpr(lambda x: module.apply(variables, x))(x))
    both = str(jax.make_jaxpr(jax.grad(lambda x: jnp.sum(module.apply(variables, x))))(x))
    assert largest in forward
    assert of_gradient in both
    for program in (forward, both):
        assert ("f32[1,2304,2304]" in program) == ("scan" not in program) == (memory == 0)


def test_an_unknown_channel_energy_is_refused():
    with pytest.raises(ValueError, match=r"'max_minus', 'plain'"):
        channel_attention(jnp.ones((1, 2, 3)), energy="max-minus")
