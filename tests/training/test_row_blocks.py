"""The loss, some rows of the label at a time: the same numbers in a part of the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax import platform
from danet_jax.platform import Target
from danet_jax.training import row_blocks
from danet_jax.training.losses import LOSSES, segmentation_losses
from tests.training.test_losses import loss_config


def compiled(name, classes, shape, memory):
    """The loss and its gradient of one map, compiled for labels of a shape."""
    config = loss_config(name=name, logit_memory=memory)
    logit_bytes = platform.logit_bytes(config, Target("cpu"))

    def loss(coarse, label):
        logits = {"fused": coarse}
        return segmentation_losses(
            logits, label, config, align_corners=True, logit_bytes=logit_bytes
        )[0]

    b, height, width = shape
    coarse = jax.ShapeDtypeStruct((b, height // 8, width // 8, classes), jnp.float32)
    label = jax.ShapeDtypeStruct(shape, jnp.uint8)
    return jax.jit(jax.value_and_grad(loss)).lower(coarse, label).compile()


@pytest.mark.parametrize("name", LOSSES)
def test_blocks_of_rows_give_the_same(name, light_compilation):
    # 4 * 2 * 104 * 19 bytes a row: blocks of 8 of the 100 rows, and all at once.
    shape, classes = (2, 100, 104), 19
    generator = np.random.default_rng(0)
    coarse = jnp.asarray(generator.standard_normal((2, 12, 13, classes)), jnp.float32)
    label = jnp.asarray(generator.choice([*range(classes), 255], shape), jnp.uint8)
    assert row_blocks.rows_of_block(shape, classes, 2**20) == 8
    blocks, gradient = compiled(name, classes, shape, 1)(coarse, label)
    expected, expected_gradient = compiled(name, classes, shape, 1000)(coarse, label)
    np.testing.assert_allclose(blocks, expected, rtol=1e-6)
    largest = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("name", ["cross_entropy", "dice"])
def test_blocks_of_rows_take_a_seventh_of_the_memory(name):
    shape, classes = (2, 768, 768), 171
    at_once, blocks = (
        compiled(name, classes, shape, memory).memory_analysis().temp_size_in_bytes
        for memory in (10_000, 0)
    )
    assert at_once > 4 * 2 * 768 * 768 * classes
    assert blocks <= 0.15 * at_once


def test_large_maps_are_cut_by_default():
    def rows(classes, target, side=768):
        logit_bytes = platform.logit_bytes(loss_config(logit_memory=0), target)
        return row_blocks.rows_of_block((8, side, side), classes, logit_bytes)

    assert rows(19, Target("gpu")) == 768
    assert rows(171, Target("gpu")) == 15
    assert rows(19, Target("cpu")) == 17
    assert rows(19, Target("cpu"), side=128) == 128
    # Four devices hold two images each.
    assert rows(171, Target("gpu", data=4)) == 4 * 15 + 3
    # Devices that share an image's rows hold a part of them anyway.
    assert rows(171, Target("gpu", space=2)) == 768
