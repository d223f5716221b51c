"""Winograd's convolution is the convolution."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from danet_jax.models.convolution import Conv, convolve, with_winograd_kernels

from danet_jax.models import winograd

pytestmark = pytest.mark.usefixtures("light_compilation")


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def test_points_of_a_kernel_and_back():
    kernel = normal(3, 3, 2, 5)
    points = winograd.transform_kernel(kernel)
    # The corners are taps themselves; along the edge the inner points are half sums.
    np.testing.assert_array_equal(points[0, 0], kernel[0, 0])
    np.testing.assert_allclose(
        points[0, 2], (kernel[0, 0] - kernel[0, 1] + kernel[0, 2]) / 2, atol=1e-6
    )
    np.testing.assert_allclose(winograd.restore_kernel(points), kernel, atol=1e-6)


@pytest.mark.parametrize("block_bytes", [1, 10_000, winograd.BLOCK_BYTES])
@pytest.mark.parametrize(
    ("size", "dilation"),
    [((8, 8), 1), ((7, 11), 1), ((13, 9), 2), ((33, 20), 4), ((1, 5), 4), ((40, 17), 16)],
)
def test_it_convolves(size, dilation, block_bytes, monkeypatch):
    monkeypatch.setattr(winograd, "BLOCK_BYTES", block_bytes)
    x, kernel = normal(2, *size, 6), normal(3, 3, 6, 4, seed=1)
    expected = convolve(x, kernel, dilation=dilation)

    @jax.jit
    def convolved(x, kernel):
        points = winograd.transform_kernel(kernel)
        return winograd.winograd_convolve(x, points, dilation=dilation)

    found = convolved(x, kernel)
    np.testing.assert_allclose(found, expected, atol=5e-6 * 54**0.5)


@pytest.mark.parametrize(
    ("size", "dilation", "expected"),
    [((32, 32), 1, True), ((32, 32), 16, True), ((3, 500), 16, False), ((1, 1), 1, False)],
)
def test_tiles_that_lie_outside_are_not_worth_it(size, dilation, expected):
    assert winograd.is_worthwhile(*size, dilation=dilation) == expected


class Convolutions(nn.Module):
    """What may and what may not be transformed."""

    @nn.compact
    def __call__(self, x, *, train):
        del train
        x = Conv(64, 3, name="narrow")(x)
        x = Conv(64, 3, dilation=2, use_bias=True, name="wide")(x)
        x = Conv(64, 3, stride=2, name="strided")(x)
        return Conv(64, 1, name="point")(x)


@pytest.mark.parametrize("size", [(20, 14), (2, 40)])
def test_only_what_gains_is_transformed(size):
    model = Convolutions()
    image = normal(1, *size, 3)
    init = jax.jit(functools.partial(model.init, train=False))
    variables = init(jax.random.key(0), image)
    assert set(variables) == {"params"}
    prepared = with_winograd_kernels(model, variables)
    assert set(prepared["winograd"]) == {"wide"}
    assert prepared["winograd"]["wide"]["kernel"].shape == (4, 4, 64, 64)
    # The former kernel is not kept beside it.
    assert set(prepared["params"]["wide"]) == {"bias"}
    assert set(prepared["params"]) == {"narrow", "wide", "strided", "point"}
    apply = jax.jit(functools.partial(model.apply, train=False))
    np.testing.assert_allclose(apply(prepared, image), apply(variables, image), atol=1e-4)


def test_small_networks_stay_as_they_are():
    variables = {"params": {"conv": {"kernel": jnp.zeros((3, 3, 32, 64))}}}
    assert with_winograd_kernels(Convolutions(), variables) is variables
