import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax.ops.resize import IMPLEMENTATIONS, interpolation_matrix, resize_bilinear

pytestmark = pytest.mark.usefixtures("light_compilation")


def line(values, size, *, align_corners):
    """Resizes along the width; along the height in the same breath, as a check."""
    row = jnp.asarray(values, jnp.float32)
    wide = resize_bilinear(row[None, None, :, None], (1, size), align_corners=align_corners)
    high = resize_bilinear(row[None, :, None, None], (size, 1), align_corners=align_corners)
    np.testing.assert_array_equal(wide.ravel(), high.ravel())
    return wide.ravel()


@pytest.mark.parametrize(
    ("values", "size", "align_corners", "expected"),
    [
        # 2 → 5: corners stay, four equal steps.
        ([0, 4], 5, True, [0, 1, 2, 3, 4]),
        # 2 → 4, half-pixel centres: -0.25 and 1.25 are clipped to the ends.
        ([0, 4], 4, False, [0, 1, 3, 4]),
        # 3 → 6: positions -0.25, 0.25, 0.75, 1.25, 1.75, 2.25.
        ([0, 4, 16], 6, False, [0, 1, 3, 7, 13, 16]),
        # 5 → 3: positions 0, 2, 4.
        ([0, 1, 10, 3, 7], 3, True, [0, 10, 7]),
        # 4 → 2: positions 0.5 and 2.5, two neighbours' mean, no antialias.
        ([0, 2, 10, 20], 2, False, [1, 15]),
        # 6 → 2: positions 1 and 4 exactly.
        ([0, 1, 2, 3, 4, 5], 2, False, [1, 4]),
        # To one pixel: the first with aligned corners, the middle without (torch's rule).
        ([3, 5, 10], 1, True, [3]),
        ([3, 5, 10], 1, False, [5]),
        # From one pixel: everywhere the same.
        ([7], 3, True, [7, 7, 7]),
        ([7], 3, False, [7, 7, 7]),
        ([1, 2, 4], 3, True, [1, 2, 4]),
        ([1, 2, 4], 3, False, [1, 2, 4]),
    ],
)
def test_values_of_pytorch_interpolate(values, size, align_corners, expected):
    np.testing.assert_allclose(line(values, size, align_corners=align_corners), expected, atol=1e-6)


def test_both_axes_and_channels_apart():
    x = jnp.array([[[[0.0, 8.0], [2.0, 6.0]], [[4.0, 4.0], [10.0, 2.0]]]])
    resized = resize_bilinear(x, (3, 3), align_corners=True)
    np.testing.assert_allclose(resized[0, :, :, 0], [[0, 1, 2], [2, 4, 6], [4, 7, 10]], atol=1e-6)
    np.testing.assert_allclose(resized[0, :, :, 1], [[8, 7, 6], [6, 5, 4], [4, 3, 2]], atol=1e-6)


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("sizes", [(1, 9), (5, 33), (33, 5), (97, 129), (12, 96), (7, 1)])
def test_each_output_is_a_weighted_mean_of_two_neighbours(sizes, align_corners):
    matrix = interpolation_matrix(*sizes, align_corners=align_corners)
    assert matrix.shape == sizes[::-1]
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-6)
    assert matrix.min() >= 0
    for row in matrix:
        used = np.flatnonzero(row)
        assert used[-1] - used[0] <= 1
    # Mirrored input gives mirrored output; torch's single output of aligned corners is the first.
    if not (align_corners and sizes[1] == 1):
        np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-5)


@pytest.mark.parametrize("align_corners", [True, False])
def test_linear_ramps_stay_linear(align_corners):
    x = np.arange(5.0, dtype=np.float32)
    resized = line(x, 17, align_corners=align_corners)
    expected = np.arange(17) / 4 if align_corners else (np.arange(17) + 0.5) * 5 / 17 - 0.5
    np.testing.assert_allclose(resized, np.clip(expected, 0, 4), atol=1e-6)


def test_gradient_is_the_transposed_matrix():
    matrix = interpolation_matrix(4, 7, align_corners=True)
    weights = np.random.default_rng(0).standard_normal((1, 1, 7, 1)).astype(np.float32)
    gradient = jax.grad(
        lambda x: jnp.sum(weights * resize_bilinear(x, (1, 7), align_corners=True))
    )(jnp.zeros((1, 1, 4, 1)))
    np.testing.assert_allclose(gradient.ravel(), matrix.T @ weights.ravel(), rtol=1e-5)


def test_bfloat16_stays_bfloat16():
    x = jnp.ones((1, 2, 2, 1), jnp.bfloat16)
    assert resize_bilinear(x, (4, 4), align_corners=False).dtype == jnp.bfloat16


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(
    ("shape", "size"), [((2, 5, 7, 3), (33, 20)), ((1, 12, 3, 2), (5, 24)), ((3, 1, 4, 1), (6, 4))]
)
def test_all_forms_give_the_same(shape, size, align_corners):
    draw = np.random.default_rng(0).standard_normal
    x, weights = draw(shape, np.float32), draw((shape[0], *size, shape[3]), np.float32)

    def by(implementation):
        resized, transposed = jax.vjp(
            lambda x: resize_bilinear(
                x, size, align_corners=align_corners, implementation=implementation
            ),
            x,
        )
        return resized, *transposed(weights)

    assert set(IMPLEMENTATIONS) == {"by_platform", "one_product", "row_products"}
    for form in ("by_platform", "row_products"):
        for found, expected in zip(by(form), by("one_product"), strict=True):
            np.testing.assert_allclose(
                found, expected, atol=1e-6 * np.abs(expected).max(), err_msg=form
            )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_integers_are_refused(dtype):
    """In their type the weights would be 0 and 1."""
    with pytest.raises(ValueError, match="give floats"):
        resize_bilinear(jnp.zeros((1, 4, 4, 3), dtype), (7, 7), align_corners=True)
