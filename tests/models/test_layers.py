"""Convolution and batch norm as modules, and the backbone that they make."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from danet_jax.models.layers import BatchNorm, Conv
from danet_jax.models.resnet import RESNETS, ResNet, block_dilations
from tests.ops.arrays import normal

pytestmark = pytest.mark.usefixtures("light_compilation")

FLOAT32 = jnp.dtype("float32")
BFLOAT16 = jnp.dtype("bfloat16")


def test_conv_adds_its_bias_and_computes_in_its_type():
    module = Conv(4, 1, use_bias=True, dtype=BFLOAT16)
    x = normal(1, 2, 2, 3)
    params = module.init(jax.random.key(0), x)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    kernel, bias = np.asarray(params["kernel"]), np.asarray(params["bias"])
    assert 0 < np.abs(bias).max() <= 3**-0.5
    y = module.apply({"params": params}, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(
        y.astype(jnp.float32),
        np.asarray(x) @ kernel[0, 0] + bias[None, None, None],
        rtol=0.02,
        atol=0.02,
    )


def test_backbone_kernels_start_as_he_proposed():
    # Standard deviation sqrt(2 / (k * k * features)).
    module = Conv(64, 3, dtype=FLOAT32)
    params = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 32)))["params"]
    np.testing.assert_allclose(np.std(params["kernel"]), (2 / (9 * 64)) ** 0.5, rtol=0.02)


# --- batch norm ----------------------------------------------------------------------------------

# Channel 0: 1, 3, 5, 7 (mean 4, biased variance 5, unbiased 20/3); channel 1: four times 2.
BATCH = jnp.array([[[[1.0, 2.0], [3.0, 2.0]]], [[[5.0, 2.0], [7.0, 2.0]]]])
NORM = BatchNorm(dtype=FLOAT32)
AFFINE = {"scale": jnp.array([2.0, 3.0]), "bias": jnp.array([10.0, -1.0])}


def test_batch_norm_in_training():
    running = {"mean": jnp.array([1.0, 0.0]), "var": jnp.array([3.0, 1.0])}
    out, updated = NORM.apply(
        {"params": AFFINE, "batch_stats": running}, BATCH, train=True, mutable=["batch_stats"]
    )
    # Normalised by the batch's mean and biased variance.
    normal_0 = np.array([-3, -1, 1, 3]) / np.sqrt(5 + 1e-5)
    np.testing.assert_allclose(out[..., 0].ravel(), 10 + 2 * normal_0, rtol=1e-6)
    np.testing.assert_array_equal(out[..., 1].ravel(), -np.ones(4))
    # torch's momentum of 0.1, and its unbiased variance.
    statistics = updated["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], [0.9 * 1 + 0.1 * 4, 0.1 * 2], rtol=1e-6)
    np.testing.assert_allclose(statistics["var"], [0.9 * 3 + 0.1 * 20 / 3, 0.9], rtol=1e-6)


def test_batch_norm_in_evaluation_uses_running_statistics():
    running = {"mean": jnp.array([1.0, 0.0]), "var": jnp.array([4.0, 1.0])}
    out = NORM.apply({"params": AFFINE, "batch_stats": running}, BATCH, train=False)
    np.testing.assert_allclose(
        out[..., 0].ravel(), 10 + 2 * np.array([0, 2, 4, 6]) / np.sqrt(4 + 1e-5), rtol=1e-6
    )
    np.testing.assert_allclose(out[..., 1], -1 + 3 * 2 / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_batch_norm_of_one_value_has_no_infinite_variance():
    out, updated = NORM.init_with_output(jax.random.key(0), jnp.full((1, 1, 1, 2), 5.0), train=True)
    np.testing.assert_array_equal(out, np.zeros((1, 1, 1, 2)))
    # Initialising leaves the statistics alone.
    np.testing.assert_array_equal(updated["batch_stats"]["mean"], [0, 0])
    _, updated = NORM.apply(
        updated, jnp.full((1, 1, 1, 2), 5.0), train=True, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [0.9, 0.9], rtol=1e-6)


def test_batch_norm_survives_a_mean_far_from_zero():
    # E[x²] - E[x]² in float32 would find no variance here.
    x = 1e4 + normal(4, 8, 8, 1)
    out = NORM.init_with_output(jax.random.key(0), x, train=True)[0]
    exact = np.asarray(x, np.float64)
    np.testing.assert_allclose(out, (exact - exact.mean()) / exact.std(), atol=2e-3)


def test_batch_norm_of_bfloat16_counts_in_float32():
    x = jnp.asarray(normal(4, 16, 16, 2) + 3, jnp.bfloat16)
    module = BatchNorm(dtype=BFLOAT16)
    variables = module.init(jax.random.key(0), x, train=True)
    out, updated = module.apply(variables, x, train=True, mutable=["batch_stats"])
    assert out.dtype == jnp.bfloat16
    mean = np.asarray(x, np.float64).mean(axis=(0, 1, 2))
    assert updated["batch_stats"]["mean"].dtype == jnp.float32
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * mean, rtol=1e-5)


# --- backbone ------------------------------------------------------------------------------------


def test_block_dilations():
    assert block_dilations(3, 1) == [1, 1, 1]
    assert block_dilations(6, 2) == [1, 2, 2, 2, 2, 2]
    assert block_dilations(3, 4) == [2, 4, 4]
    assert block_dilations(3, 4, (4, 8, 16)) == [4, 8, 16]
    assert block_dilations(2, 4, (4, 8, 16)) == [4, 8]


def convolutions(backbone, image=(64, 96), **fields):
    """Returns {name: (stride, dilation)} of all convolutions and the shapes of both outputs."""
    bottleneck, blocks = RESNETS[backbone]
    model = ResNet(bottleneck=bottleneck, blocks=blocks, width=4, dtype=FLOAT32, **fields)
    found = {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            module = context.module
            found["/".join(module.path)] = (module.stride, module.dilation)
        return call(*args, **kwargs)

    def run(image):
        with nn.intercept_methods(record):
            return model.init_with_output(jax.random.key(0), image, train=False)[0]

    layer3, layer4 = jax.eval_shape(run, jnp.zeros((1, *image, 3)))
    return found, (layer3.shape, layer4.shape)


def column(found, layer, conv):
    return [found[name] for name in found if name.startswith(layer) and name.endswith(conv)]


def test_output_stride_8():
    found, shapes = convolutions("resnet50")
    assert shapes == ((1, 8, 12, 64), (1, 8, 12, 128))
    assert found["stem_conv1"] == (2, 1)
    assert column(found, "layer1", "conv2") == [(1, 1)] * 3
    assert column(found, "layer2", "conv2") == [(2, 1)] + [(1, 1)] * 3
    assert column(found, "layer3", "conv2") == [(1, 1)] + [(1, 2)] * 5
    assert column(found, "layer4", "conv2") == [(1, 2), (1, 4), (1, 4)]
    assert found["layer2_0/downsample_conv"] == (2, 1)
    assert found["layer4_0/downsample_conv"] == (1, 1)
    # The stride sits on the 3x3 convolution.
    assert found["layer2_0/conv1"] == found["layer2_0/conv3"] == (1, 1)


def test_output_stride_16():
    found, shapes = convolutions("resnet50", output_stride=16)
    assert shapes == ((1, 4, 6, 64), (1, 4, 6, 128))
    assert column(found, "layer3", "conv2") == [(2, 1)] + [(1, 1)] * 5
    assert column(found, "layer4", "conv2") == [(1, 1), (1, 2), (1, 2)]


def test_multi_grid_gives_layer_4_its_dilations_as_they_are():
    found, _ = convolutions("resnet50", multi_grid=(4, 8, 16))
    assert column(found, "layer4", "conv2") == [(1, 4), (1, 8), (1, 16)]
    assert column(found, "layer3", "conv2") == [(1, 1)] + [(1, 2)] * 5


def test_basic_blocks_second_convolution_has_the_layers_dilation():
    found, shapes = convolutions("resnet18")
    assert shapes == ((1, 8, 12, 16), (1, 8, 12, 32))
    assert column(found, "layer3", "conv1") == [(1, 1), (1, 2)]
    assert column(found, "layer3", "conv2") == [(1, 2), (1, 2)]
    assert column(found, "layer4", "conv1") == [(1, 2), (1, 4)]
    assert column(found, "layer4", "conv2") == [(1, 4), (1, 4)]
    # Layer 1 needs no projection, layers 2 to 4 one each.
    assert sum(name.endswith("downsample_conv") for name in found) == 3


def test_deep_stem_and_odd_sizes():
    found, shapes = convolutions("resnet18", (97, 129), stem="deep", deep_stem_width=8)
    assert [found[f"stem_conv{n}"] for n in (1, 2, 3)] == [(2, 1), (1, 1), (1, 1)]
    assert shapes[1] == (1, 13, 17, 32)
    assert convolutions("resnet18", (97, 129), output_stride=16)[1][1] == (1, 7, 9, 32)
