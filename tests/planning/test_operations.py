"""The arithmetic of traced functions, against what their definitions say."""

import jax
import jax.numpy as jnp
import pytest

import danet_jax
from danet_jax.network import abstract_variables
from danet_jax.planning.operations import count_operations

NHWC = ("NHWC", "HWIO", "NHWC")


def shape(*sides):
    return jax.ShapeDtypeStruct(sides, jnp.float32)


def convolve(x, kernel, **options):
    options = {"window_strides": (1, 1), "padding": "SAME"} | options
    return jax.lax.conv_general_dilated(x, kernel, dimension_numbers=NHWC, **options)


def test_products():
    def product(x, y):
        return jnp.einsum("bij,bjk->bik", x, y)

    count = count_operations(product, shape(3, 5, 7), shape(3, 7, 11))
    assert count == 2 * 3 * 5 * 7 * 11


@pytest.mark.parametrize(
    ("options", "pairs"),
    [
        # An axis of six values: in the middle each meets three taps, at the ends two.
        ({}, (16, 16)),
        ({"padding": "VALID"}, (12, 12)),
        ({"rhs_dilation": (2, 2)}, (14, 14)),
        ({"window_strides": (2, 2), "padding": ((1, 1), (1, 1))}, (8, 8)),
        # Zeros between the values are multiplied by nothing: 6 values, 11 outputs.
        ({"lhs_dilation": (2, 2), "padding": ((1, 1), (1, 1))}, (16, 16)),
    ],
)
def test_convolutions_leave_padding_out(options, pairs):
    count = count_operations(
        lambda x, kernel: convolve(x, kernel, **options), shape(2, 6, 6, 4), shape(3, 3, 4, 8)
    )
    assert count == 2 * 2 * 4 * 8 * pairs[0] * pairs[1]


def test_groups_of_channels():
    count = count_operations(
        lambda x, kernel: convolve(x, kernel, feature_group_count=4, padding="VALID"),
        shape(1, 1, 1, 8),
        shape(1, 1, 2, 12),
    )
    assert count == 2 * 12 * 2


def test_each_round_of_a_loop_counts():
    def loop(x, y):
        return jax.lax.scan(lambda carry, _: (carry @ y, None), x, None, length=5)[0]

    assert count_operations(loop, shape(3, 4), shape(4, 4)) == 5 * 2 * 3 * 4 * 4


def test_what_a_gradient_computes_anew_counts_again():
    def value(x, y):
        return jnp.sum(jnp.sin(jax.checkpoint(lambda x: jnp.sin(x @ y))(x)))

    once = 2 * 3 * 4 * 4
    # Forward, once more in the backward pass, and for the gradient of x.
    assert count_operations(jax.grad(value), shape(3, 4), shape(4, 4)) == 3 * once


def test_a_resnet_has_the_published_arithmetic():
    """He et al. (CVPR 2016), table 1: 7.6e9 multiply-adds for ResNet-101 at 224×224.

    Here its layers 3 and 4 keep the resolution of layer 2, which is counted by hand.
    """
    model = danet_jax.create_model(
        {"backbone": "resnet101", "attention": (), "multi_grid": (), "num_classes": 19},
        platform="gpu",
    )
    size = 224

    def bottleneck(channels, width, side, *, first, taken):
        count = taken**2 * channels * width + side**2 * (9 * width**2 + 4 * width**2)
        return count + (side**2 * channels * 4 * width if first else 0)

    total = 112**2 * 49 * 3 * 64
    channels = 64
    for width, blocks, side, taken in ((64, 3, 56, 56), (128, 4, 28, 56), (256, 23, 28, 28)):
        for block in range(blocks):
            total += bottleneck(
                channels, width, side, first=block == 0, taken=taken if block == 0 else side
            )
            channels = 4 * width
    for block in range(3):
        total += bottleneck(channels, 512, 28, first=block == 0, taken=28)
        channels = 2048
    # The head: a 3×3 convolution to a quarter of the channels, and the classifier.
    total += 28**2 * (9 * 2048 * 512 + 512 * 19)

    def apply(variables, image):
        return model.apply(variables, image, train=False)

    counted = count_operations(apply, abstract_variables(model), shape(1, size, size, 3))
    # Taps that meet padding are in the sum by hand, and the resizing of logits is not.
    assert 0.93 < counted / (2 * total) < 1.01
