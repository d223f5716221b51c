"""Winograd's convolution is the convolution."""

import jax
import numpy as np
import pytest

from danet_jax.ops import winograd
from danet_jax.ops.convolution import convolve
from danet_jax.ops.implementation import NATIVE, Implementation
from tests.ops.arrays import normal

pytestmark = pytest.mark.usefixtures("light_compilation")


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


@pytest.mark.parametrize("implementation", [NATIVE, Implementation(convolution="winograd")])
@pytest.mark.parametrize(("size", "uses_tiles"), [((20, 14), True), ((2, 40), False)])
def test_transformed_kernels_convolve_maps_of_all_sizes(size, uses_tiles, implementation):
    """Where tiles lie mostly outside of the map, by the kernel that was transformed."""
    x, kernel = normal(1, *size, 64), normal(3, 3, 64, 64, seed=1)
    expected = convolve(x, kernel, dilation=2)
    points = jax.jit(winograd.transform_kernel)(kernel)

    def convolved(x, points):
        return convolve(x, points, dilation=2, implementation=implementation)

    program = str(jax.make_jaxpr(convolved)(x, points))
    assert ("conv_general_dilated" not in program) == uses_tiles
    np.testing.assert_allclose(jax.jit(convolved)(x, points), expected, atol=5e-6 * 576**0.5)
