"""What is computed how on which platform, as far as a CPU can tell for all of them."""

import collections
import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax import platform
from danet_jax.models import resnet
from danet_jax.network import abstract_variables
from danet_jax.ops import convolution, position_attention
from danet_jax.ops.implementation import Implementation
from danet_jax.ops.shards import Shards
from danet_jax.platform import Target
from danet_jax.runtime import parallel
from danet_jax.training.state import _accumulated_gradients
from tests.training.compilation import light_compilation
from tests.training.tiny import random_batch, random_variables, tiny_config

__all__ = ["light_compilation"]

MEBIBYTE = 2**20
PLATFORMS = ("cpu", "gpu", "tpu")


def implementation(name, *, space=1, **fields):
    return platform.implementation(tiny_config(**fields).model, Target(name, space=space))


# --- what "auto" means ---------------------------------------------------------------------------

# (platform, devices that share an image's rows, what is asked for): the form of 3x3 convolutions,
# and of the weight gradients without dilation or stride, with dilation, and with a stride.
CONVOLUTIONS = {
    ("cpu", 1, "auto"): ("winograd", "einsum", "einsum", "einsum"),
    ("cpu", 2, "auto"): ("native", "native", "native", "native"),
    ("cpu", 1, "native"): ("native", "native", "native", "native"),
    ("cpu", 2, "native"): ("native", "native", "native", "native"),
    ("cpu", 1, "einsum"): ("native", "einsum", "einsum", "einsum"),
    ("cpu", 2, "einsum"): ("native", "einsum", "einsum", "einsum"),
    ("cpu", 1, "space_to_batch"): ("native", *("space_to_batch",) * 3),
    ("cpu", 2, "space_to_batch"): ("native", *("space_to_batch",) * 3),
    ("gpu", 1, "auto"): ("native", "native", "einsum", "native"),
    ("gpu", 2, "auto"): ("native", "native", "native", "native"),
    ("gpu", 1, "native"): ("native", "native", "native", "native"),
    ("gpu", 2, "native"): ("native", "native", "native", "native"),
    ("gpu", 1, "einsum"): ("native", "einsum", "einsum", "native"),
    ("gpu", 2, "einsum"): ("native", "einsum", "einsum", "native"),
    ("gpu", 1, "space_to_batch"): ("native", "space_to_batch", "space_to_batch", "native"),
    ("gpu", 2, "space_to_batch"): ("native", "space_to_batch", "space_to_batch", "native"),
}
CONVOLUTIONS |= {
    ("tpu", space, asked): forms
    for (name, space, asked), forms in CONVOLUTIONS.items()
    if name == "gpu"
} | {("tpu", 1, "auto"): ("native", "native", "native", "native")}
# (platform, what is asked for, config.model.energy_memory): the form, the bytes of energies from
# which on it is taken, and the bytes of rows that are held at a time.
ATTENTION = {
    ("cpu", "auto", 0): ("tiles", 128 * MEBIBYTE, 16 * MEBIBYTE),
    ("cpu", "chunked", 0): ("tiles", 0, 16 * MEBIBYTE),
    ("cpu", "full", 0): ("full", 128 * MEBIBYTE, 16 * MEBIBYTE),
    ("cpu", "auto", 8): ("tiles", 8 * MEBIBYTE, MEBIBYTE),
    ("gpu", "auto", 0): ("rows", 512 * MEBIBYTE, 64 * MEBIBYTE),
    ("gpu", "chunked", 0): ("rows", 0, 64 * MEBIBYTE),
    ("gpu", "full", 0): ("full", 512 * MEBIBYTE, 64 * MEBIBYTE),
    ("gpu", "chunked", 8): ("rows", 0, MEBIBYTE),
    ("tpu", "auto", 0): ("rows", 512 * MEBIBYTE, 64 * MEBIBYTE),
    ("tpu", "chunked", 0): ("rows", 0, 64 * MEBIBYTE),
    ("tpu", "full", 0): ("full", 512 * MEBIBYTE, 64 * MEBIBYTE),
    ("tpu", "auto", 8): ("rows", 8 * MEBIBYTE, MEBIBYTE),
}
RECOMPUTATION = {
    (name, asked): asked if asked != "auto" else {"cpu": "light"}.get(name, "none")
    for name in PLATFORMS
    for asked in ("auto", "none", "light", "block")
}
# Of each platform, whatever is asked for: whether gradients are ordered, residual_relu, resize.
OTHERS = {
    "cpu": (True, "materialized", "one_product"),
    "gpu": (False, "fused", "row_products"),
    "tpu": (False, "fused", "one_product"),
}


@pytest.mark.parametrize("space", [1, 2])
@pytest.mark.parametrize("name", PLATFORMS)
def test_every_field_of_every_platform(name, space):
    convolutions = [key for key in CONVOLUTIONS if key[:2] == (name, space)]
    attentions = [key for key in ATTENTION if key[0] == name]
    recomputations = [key for key in RECOMPUTATION if key[0] == name]
    assert (len(convolutions), len(attentions), len(recomputations)) == (4, 4, 4)
    for convolution_key in convolutions:
        for attention_key in attentions:
            for recomputation_key in recomputations:
                found = implementation(
                    name,
                    space=space,
                    conv_weight_gradient=convolution_key[2],
                    position_attention=attention_key[1],
                    energy_memory=attention_key[2],
                    remat=recomputation_key[1],
                )
                form, plain, dilated, strided = CONVOLUTIONS[convolution_key]
                attention, full_bytes, row_bytes = ATTENTION[attention_key]
                ordered, residual_relu, resize = OTHERS[name]
                assert found == Implementation(
                    convolution=form,
                    weight_gradient=plain,
                    dilated_weight_gradient=dilated,
                    strided_weight_gradient=strided,
                    position_attention=attention,
                    full_attention_bytes=full_bytes,
                    attention_row_bytes=row_bytes,
                    recompute=RECOMPUTATION[recomputation_key],
                    ordered_gradients=ordered,
                    residual_relu=residual_relu,
                    resize=resize,
                    shards=Shards(data=1, space=1 if name == "cpu" else space),
                    stored_convolutions=name == "tpu",
                    folded_norms=False,
                    winograd_kernels=False,
                )


def test_a_model_is_made_for_its_platform_or_for_what_is_here():
    config = tiny_config().model
    for name in PLATFORMS:
        model = danet_jax.create_model(config, platform=name)
        assert model.implementation == implementation(name)
        assert model == danet_jax.create_model(config, platform=Target(name))
    shared = danet_jax.create_model(config, platform=Target("cpu", data=4, space=2))
    assert shared.implementation == implementation("cpu", space=2)
    shared = danet_jax.create_model(config, platform=Target("tpu", data=4, space=2))
    assert shared.implementation.shards == Shards(data=4, space=2)
    assert danet_jax.create_model(config).implementation == implementation("cpu")


def test_targets():
    assert Target.here() == Target("cpu", data=1, space=1)
    mesh = parallel.create_mesh(space=2)
    assert Target.of_mesh(mesh) == Target("cpu", data=4, space=2)


@pytest.mark.parametrize(
    ("name", "dtype", "transformed"),
    [
        ("cpu", "float32", True),
        ("cpu", "bfloat16", False),
        ("gpu", "float32", False),
        ("tpu", "float32", False),
    ],
)
def test_kernels_are_transformed_for_inference_on_cpu(name, dtype, transformed):
    former = implementation(name)
    found = platform.for_inference(former, Target(name), jnp.dtype(dtype))
    assert found == dataclasses.replace(former, folded_norms=True, winograd_kernels=transformed)


@pytest.mark.parametrize(
    ("target", "mebibytes", "expected"),
    [
        (Target("cpu"), 0, 64 * MEBIBYTE),
        (Target("gpu"), 0, 512 * MEBIBYTE),
        (Target("tpu"), 0, 512 * MEBIBYTE),
        (Target("gpu", data=4), 0, 4 * 512 * MEBIBYTE),
        (Target("gpu", data=4, space=2), 0, None),
        (Target("cpu"), 3, 3 * MEBIBYTE),
        (Target("tpu", data=2), 3, 6 * MEBIBYTE),
        (Target("cpu", space=2), 3, None),
    ],
)
def test_bytes_of_logits(target, mebibytes, expected):
    config = tiny_config(loss={"logit_memory": mebibytes})
    assert platform.logit_bytes(config.loss, target) == expected


# --- what the programs hold ----------------------------------------------------------------------


@pytest.fixture
def small_bottlenecks(monkeypatch):
    monkeypatch.setitem(resnet.RESNETS, "resnet10", (True, (1, 1, 1, 1)))


@functools.cache
def lowered_step(name):
    """A training step in StableHLO, as the compiler of a platform would get it."""
    # 64 channels and more, as Winograd's algorithm wants them.
    config = tiny_config(width=64)
    model = danet_jax.create_model(config.model, platform=name)
    create = functools.partial(
        danet_jax.create_train_state, config, model, total_steps=10, target=Target(name)
    )
    state = jax.eval_shape(create, abstract_variables(model))
    traced = jax.jit(danet_jax.train_step).trace(state, random_batch(2))
    compiler = {"gpu": "cuda"}.get(name, name)
    return traced.lower(lowering_platforms=(compiler,)).as_text()


def operations(name):
    """How many convolutions, products (those of Winograd apart) and barriers a step holds."""
    text = lowered_step(name)
    count = collections.Counter()
    for line in text.splitlines():
        if "stablehlo.convolution" in line:
            count["convolution"] += 1
        elif "stablehlo.dot_general" in line:
            # Four points of a tile's row, of maps and of kernels; the batch is of two.
            points = re.search(r": \(tensor<4x\d+x\d+xf32>, tensor<4x\d+x\d+xf32>\)", line)
            count["winograd" if "batching_dims = [0] x [0]" in line and points else "product"] += 1
        elif "stablehlo.optimization_barrier" in line:
            count["barrier"] += 1
    return count


# 3x3 convolutions without a stride: one in layers 1, 3 and 4 each, and four in the head.
WITHOUT_STRIDE = 3 + 4
# With a stride: the stem, and in layer 2 a 3x3 and a 1x1 convolution.
WITH_STRIDE = 3


@pytest.mark.parametrize("name", ["gpu", "tpu"])
def test_steps_for_accelerators_hold_their_convolutions(name, small_bottlenecks):
    found = operations(name)
    assert found["winograd"] == 0
    # Forward; by the input but for the stem's, which is the image; and by the kernel, on GPUs but
    # for the one with a dilation, in layer 4.
    products = {"gpu": 1, "tpu": 0}[name]
    assert found["convolution"] == 3 * (WITHOUT_STRIDE + WITH_STRIDE) - 1 - products
    assert found["barrier"] < operations("cpu")["barrier"]


def test_steps_for_cpus_hold_winograds_products(small_bottlenecks):
    found = operations("cpu")
    # The 16 points come four at a time. Forward, by the input, and by the kernel but for layer 1's,
    # which has less than 128 channels.
    assert found["winograd"] == 4 * (3 * WITHOUT_STRIDE - 1)
    # Forward, and by the input, of which XLA will leave out the stem's; by the kernel they are
    # products. The 1x1 convolution, whose output is wide, is computed anew for the gradient.
    assert found["convolution"] == 2 * WITH_STRIDE + 1


# --- all choices compute the same ----------------------------------------------------------------


@functools.cache
def step(name, form, dtype):
    """Gradients, running statistics and losses of a step as on another platform, on this CPU."""
    config = tiny_config(attention=("position",), position_attention=form, dropout_rate=0.3)
    target = Target(name)
    model = danet_jax.create_model(config.model, platform=target)
    # Three of 16 rows at a time.
    implementation = dataclasses.replace(model.implementation, attention_row_bytes=4 * 16 * 3)
    model = model.clone(dtype=jnp.dtype(dtype), implementation=implementation)
    variables = jax.tree.map(lambda x: np.asarray(x, dtype), random_variables(model, seed=1))
    state = danet_jax.create_train_state(
        config, model, jax.device_put(variables), 10, target=target
    )
    options = platform.compiler_options(Target("cpu"))
    function = jax.jit(_accumulated_gradients, compiler_options=options)
    return jax.device_get(function(state, random_batch(2)))


@pytest.fixture
def in_small_parts(small_bottlenecks, monkeypatch):
    """All takes place that only large networks and large maps have."""
    monkeypatch.setattr(convolution, "WINOGRAD_CHANNELS", 4)
    monkeypatch.setattr(convolution, "WINOGRAD_GRADIENT_CHANNELS", 8)
    monkeypatch.setattr(position_attention, "TILE_QUERIES", 6)
    monkeypatch.setattr(position_attention, "TILE_KEYS", 5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 2e-5)])
@pytest.mark.parametrize("form", ["auto", "chunked"])
@pytest.mark.parametrize("name", PLATFORMS)
def test_values_and_gradients_do_not_depend_on_the_platform(
    name, form, dtype, tolerance, in_small_parts, light_compilation
):
    """In float64 but for Winograd's algorithm, which computes in float32 alone."""
    with jax.enable_x64(dtype == "float64"):
        gradients, *others = step(name, form, dtype)
        expected_gradients, *expected_others = step("cpu", "full", dtype)
    # The key bias's true gradient is 0: what is there is rounding.
    largest = max(np.linalg.norm(leaf) for leaf in jax.tree.leaves(expected_gradients))
    assert_close(gradients, expected_gradients, tolerance, floor=1e-2 * largest)
    assert_close(others, expected_others, tolerance)


def assert_close(ours, theirs, tolerance, *, floor=0.0):
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        deviation = np.linalg.norm(a - b)
        assert deviation <= tolerance * (np.linalg.norm(b) + floor), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", PLATFORMS)
@pytest.mark.parametrize("form", ["auto", "chunked"])
def test_predictions_do_not_depend_on_the_platform(name, form, in_small_parts, light_compilation):
    image = random_batch(1)["image"]

    def logits(name, form):
        config = tiny_config(attention=("position",), position_attention=form).model
        model = danet_jax.create_model(config, platform=name)
        variables = random_variables(model, seed=1)
        return jax.jit(lambda x: model.apply(variables, x, train=False))(image)["fused"]

    expected = logits("cpu", "full")
    deviation = np.abs(logits(name, form) - expected).max()
    assert deviation <= 1e-5 * np.abs(expected).max()
