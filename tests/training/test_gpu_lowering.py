"""The programs that a GPU gets, as far as a machine without one can look at them.

XLA's compiler for GPUs fuses what a matrix product reads into the product's kernel. Where it reads
a slice with a stride, reshaped to a matrix, the compiler of jax 0.10 and 0.11 aborts the process; a
product in full precision along a map's middle axis has no tiles in that of 0.10. `make
compile-check` runs that compiler.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import pytest

import danet_jax
from danet_jax.evaluation import programs
from danet_jax.evaluation.full_size import full_logits
from danet_jax.evaluation.inference import fold_batch_norm
from danet_jax.evaluation.padding import valid_region
from danet_jax.models import resnet
from danet_jax.network import abstract_variables
from danet_jax.ops.resize import BY_PLATFORM, resize_bilinear
from danet_jax.platform import Target
from danet_jax.training.row_blocks import over_pixels
from tests.training.tiny import random_batch, random_variables, tiny_config

# Where a walk back from a product ends: what a kernel of its own computes.
KERNELS = ("convolution", "dot_general", "reduce_window", "select_and_scatter", "while", "sort")


def lowered_for_gpu(function, *arguments):
    """The module that XLA's compiler for NVIDIA GPUs would get."""
    lowered = jax.jit(function).trace(*arguments).lower(lowering_platforms=("cuda",))
    return lowered.compiler_ir("stablehlo")


def products_of_strided_slices(module) -> list[str]:
    """The products of a StableHLO module that read a slice with a stride."""
    functions = {block.operation.attributes["sym_name"].value: block for block in module.body}
    found = []

    def strided(value, seen: set) -> bool:
        """Whether a value comes from such a slice by anything but a kernel."""
        operation = getattr(value.owner, "operation", None)
        if operation is None or hash(value) in seen:  # an argument of the block
            return False
        seen.add(hash(value))
        name = operation.name.removeprefix("stablehlo.")
        if name == "slice" and any(step > 1 for step in operation.attributes["strides"]):
            return True
        if name in KERNELS:
            return False
        sources = list(operation.operands)
        if name == "func.call":
            called = functions[operation.attributes["callee"].value]
            (*_, returned) = called.regions[0].blocks[0].operations
            sources += returned.operands
        return any(strided(source, seen) for source in sources)

    def visit(operation):
        is_product = operation.operation.name == "stablehlo.dot_general"
        if is_product and any(strided(operand, set()) for operand in operation.operands):
            found.append(str(operation))
        for region in operation.regions:
            for block in region.blocks:
                for inner in block.operations:
                    visit(inner)

    visit(module.operation)
    return found


def unbatched_products_in_full_precision(module) -> list[str]:
    """The products of a StableHLO module that resize several maps by one matrix."""
    lines = [line for line in str(module).splitlines() if "stablehlo.dot_general" in line]
    return [line for line in lines if "HIGHEST" in line and "batching_dims" not in line]


def step_for_gpu(config):
    model = danet_jax.create_model(config.model, platform="gpu")
    create = functools.partial(
        danet_jax.create_train_state, config, model, target=Target("gpu"), total_steps=10
    )
    state = jax.eval_shape(create, abstract_variables(model))
    return lowered_for_gpu(danet_jax.train_step, state, random_batch(2))


@pytest.mark.parametrize(("bottleneck", "weight_gradient"), [(True, "auto"), (False, "einsum")])
def test_no_product_of_a_training_step_reads_a_strided_slice(
    bottleneck, weight_gradient, monkeypatch
):
    monkeypatch.setitem(resnet.RESNETS, "resnet10", (bottleneck, (1, 1, 1, 1)))
    config = tiny_config(
        # Strides in layers 2 and 3, in the stem, and in two blocks' shortcuts.
        output_stride=16,
        stem="deep" if bottleneck else "plain",
        remat="light",
        conv_weight_gradient=weight_gradient,
    )
    module = step_for_gpu(config)
    assert "stablehlo.dot_general" in str(module)
    assert not products_of_strided_slices(module)


def test_nor_does_one_of_a_program_for_all_platforms():
    """Exported models are made on a CPU and run on GPUs, too."""
    model = danet_jax.create_model(tiny_config().model, platform="cpu")
    implementation = dataclasses.replace(model.implementation, resize=BY_PLATFORM)
    model = model.clone(implementation=implementation)
    model, variables = fold_batch_norm(model, random_variables(model))
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8)
    module = lowered_for_gpu(functools.partial(full_logits, model), variables, image)
    assert "stablehlo.dot_general" in str(module)
    assert "HIGHEST" in str(module)
    assert not products_of_strided_slices(module)
    assert not unbatched_products_in_full_precision(module)


@pytest.mark.parametrize("resize", ["row_products", BY_PLATFORM])
@pytest.mark.parametrize("rows", [32, 8])
def test_no_product_of_a_loss_resizes_all_maps_by_one_matrix(rows, resize):
    label = jnp.asarray(random_batch(2)["label"])

    def total(coarse):
        pixels = over_pixels(
            coarse, label, rows=rows, align_corners=True, ignored=255, resize=resize
        )
        return pixels(lambda logits, label: jnp.sum(logits**2), True)

    module = lowered_for_gpu(jax.grad(total), jnp.ones((2, 4, 4, 3)))
    assert "HIGHEST" in str(module)
    assert not unbatched_products_in_full_precision(module)


def test_nor_does_one_of_a_training_step():
    module = step_for_gpu(tiny_config(attention=()))
    assert "HIGHEST" in str(module)
    assert not unbatched_products_in_full_precision(module)


@pytest.mark.parametrize("program", ["labels", "scores", "padded"])
def test_nor_does_one_of_a_program_that_predicts(program):
    model = danet_jax.create_model(tiny_config().model, platform="gpu")
    model, variables = fold_batch_norm(model, random_variables(model))
    image = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.uint8)
    region = valid_region((20, 30), (32, 32), model) if program == "padded" else None
    function = programs._labels if program == "labels" else programs._probabilities
    module = lowered_for_gpu(functools.partial(function, model), variables, image, region)
    assert "HIGHEST" in str(module)
    assert not unbatched_products_in_full_precision(module)


def test_products_by_one_matrix_are_found():
    resize = functools.partial(
        resize_bilinear, size=(9, 7), align_corners=True, implementation="one_product"
    )
    module = lowered_for_gpu(resize, jnp.ones((2, 4, 4, 3)))
    assert len(unbatched_products_in_full_precision(module)) == 2


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda x, k: x[::2].reshape(-1, 4) @ k, 1),
        (lambda x, k: jax.nn.relu(x[::2] + 1).reshape(-1, 4) @ k, 1),
        (lambda x, k: jax.jit(lambda x: x[::2])(x).reshape(-1, 4).T.T @ k, 1),
        (lambda x, k: (x.reshape(-1, 4) @ k)[::2] @ k, 1),
        (lambda x, k: (x.reshape(-1, 4) @ k)[::2], 0),
        (lambda x, k: x[1:7].reshape(-1, 4) @ k, 0),
    ],
)
def test_such_products_are_found(function, count):
    arrays = jnp.ones((8, 4, 4)), jnp.ones((4, 4))
    assert len(products_of_strided_slices(lowered_for_gpu(function, *arrays))) == count
