"""Convolution and its gradients, in all their forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax import platform
from danet_jax.configs import common
from danet_jax.ops.convolution import convolve
from danet_jax.ops.implementation import NATIVE, WEIGHT_GRADIENTS, Implementation
from danet_jax.platform import Target
from tests.ops.arrays import normal, xla_convolution

pytestmark = pytest.mark.usefixtures("light_compilation")

# What "auto" chooses on CPU.
CPU = platform.implementation(common.get_config().model, Target("cpu"))


def with_gradient(method):
    """The form whose weight gradients are all of one kind."""
    return Implementation(
        weight_gradient=method, dilated_weight_gradient=method, strided_weight_gradient=method
    )


def convolution_reference(x, kernel, *, stride, dilation):
    """One output at a time, zero outside the image."""
    x, kernel = (np.asarray(array, np.float64) for array in (x, kernel))
    b, h, w, _ = x.shape
    size, _, _, features = kernel.shape
    pad = dilation * (size - 1) // 2
    height = (h + 2 * pad - dilation * (size - 1) - 1) // stride + 1
    width = (w + 2 * pad - dilation * (size - 1) - 1) // stride + 1
    out = np.zeros((b, height, width, features))
    for n, i, j, p, q in np.ndindex(b, height, width, size, size):
        row, column = i * stride + p * dilation - pad, j * stride + q * dilation - pad
        if 0 <= row < h and 0 <= column < w:
            out[n, i, j] += x[n, row, column] @ kernel[p, q]
    return out


GEOMETRIES = [
    (1, 1, 1),
    (1, 2, 1),
    (3, 1, 1),
    (3, 2, 1),
    (3, 1, 2),
    (3, 2, 2),
    (3, 1, 4),
    (3, 1, 8),
    (3, 1, 16),
    (7, 2, 1),
]


@pytest.mark.parametrize("implementation", [NATIVE, CPU], ids=["native", "cpu"])
@pytest.mark.parametrize(("size", "stride", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("image", [(6, 9), (7, 8)])
def test_convolution_equals_its_definition(image, size, stride, dilation, implementation):
    x, kernel = normal(2, *image, 3), normal(size, size, 3, 4, seed=1)
    np.testing.assert_allclose(
        convolve(x, kernel, stride=stride, dilation=dilation, implementation=implementation),
        convolution_reference(x, kernel, stride=stride, dilation=dilation),
        rtol=1e-4,
        atol=1e-4,
    )


def gradients(x, kernel, cotangent, **how):
    """The convolution, and its gradients with respect to map and kernel."""
    y, pull = jax.vjp(lambda x, kernel: convolve(x, kernel, **how), x, kernel)
    return (y, *pull(cotangent))


@pytest.mark.parametrize("image", [(6, 9), (7, 8)])
@pytest.mark.parametrize(("size", "stride", "dilation"), GEOMETRIES)
def test_every_weight_gradient_is_xlas(size, stride, dilation, image):
    x, kernel = normal(2, *image, 3), normal(size, size, 3, 4, seed=1)
    cotangent = normal(2, *(-(-side // stride) for side in image), 4, seed=2)
    geometry = {"stride": stride, "dilation": dilation}

    @jax.jit
    def all_of_them(*arrays):
        found = {
            method: gradients(*arrays, implementation=with_gradient(method), **geometry)
            for method in WEIGHT_GRADIENTS
        }
        return found, xla_convolution(*arrays, **geometry)

    found, expected = all_of_them(x, kernel, cotangent)
    for method, arrays in found.items():
        for ours, theirs in zip(arrays, expected, strict=True):
            np.testing.assert_allclose(
                ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max(), err_msg=method
            )


@pytest.mark.parametrize(
    ("method", "convolutions", "products"),
    [("native", 3, 0), ("einsum", 2, 9), ("space_to_batch", 3, 0), ("auto", 2, 9)],
)
def test_methods_are_what_they_are_called(method, convolutions, products):
    arrays = normal(2, 8, 8, 3), normal(3, 3, 3, 4), normal(2, 8, 8, 4)
    implementation = CPU if method == "auto" else with_gradient(method)
    how = functools.partial(gradients, implementation=implementation, dilation=2)
    program = str(jax.make_jaxpr(how)(*arrays))
    assert program.count("conv_general_dilated[") == convolutions
    assert program.count("dot_general[") == products
    assert ("[8,4,4,3]" in program) == (method == "space_to_batch")


@pytest.mark.parametrize("method", WEIGHT_GRADIENTS)
def test_narrow_numbers_are_summed_in_wide_ones(method):
    arrays = normal(4, 40, 40, 2), normal(3, 3, 2, 4), normal(4, 40, 40, 4)
    narrow = (array.astype(jnp.bfloat16) for array in arrays)
    how = functools.partial(gradients, implementation=with_gradient(method))
    *_, expected = jax.jit(how)(*arrays)
    *_, found = jax.jit(how)(*narrow)
    assert found.dtype == jnp.bfloat16
    deviation = np.abs(np.asarray(found, np.float32) - expected).max()
    assert deviation < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("channels", [(64, 128), (128, 130)])
@pytest.mark.parametrize(
    ("image", "dilation"), [((10, 10), 1), ((9, 14), 1), ((13, 12), 2), ((17, 16), 4)]
)
def test_many_channels_are_trained_by_winograd(image, dilation, channels):
    x, kernel = normal(2, *image, channels[0]), normal(3, 3, *channels, seed=1)
    cotangent = normal(2, *image, channels[1], seed=2)
    geometry = {"stride": 1, "dilation": dilation}
    ours = functools.partial(gradients, implementation=CPU, **geometry)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(ours)(x, kernel, cotangent))
    found = jax.jit(ours)(x, kernel, cotangent)
    expected = jax.jit(functools.partial(xla_convolution, **geometry))(x, kernel, cotangent)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_few_channels_or_narrow_numbers_are_not_trained_by_winograd():
    def program(channels, dtype, *, stride=1, side=10):
        x, kernel = normal(1, side, side, channels[0]), normal(3, 3, *channels)
        arrays = x.astype(dtype), kernel.astype(dtype)
        how = functools.partial(convolve, stride=stride, implementation=CPU)
        return str(jax.make_jaxpr(how)(*arrays))

    assert "conv_general_dilated" not in program((64, 64), jnp.float32)
    assert "conv_general_dilated" in program((63, 64), jnp.float32)
    assert "conv_general_dilated" in program((64, 63), jnp.float32)
    assert "conv_general_dilated" in program((64, 64), jnp.bfloat16)
    assert "conv_general_dilated" in program((64, 64), jnp.float32, stride=2)
    # A tile would lie mostly outside.
    assert "conv_general_dilated" in program((64, 64), jnp.float32, side=1)
