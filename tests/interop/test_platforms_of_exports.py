"""An exported program for several platforms is on each of them what that platform is made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export as jax_export

import danet_jax
from danet_jax import Predictor
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.interop.export import FORMATS
from danet_jax.ops.resize import resize_bilinear
from tests.training.tiny import random_variables, tiny_config

PLATFORMS = ("cpu", "cuda", "tpu")

pytestmark = pytest.mark.usefixtures("open_sizes")


def operations_that_run(module) -> list:
    """The operations of a StableHLO module but for branches that a constant rules out."""
    functions = {block.operation.attributes["sym_name"].value: block for block in module.body}
    found = []

    def run(block, known: dict) -> list:
        """Numbers that a block returns, None where they are not known before it runs."""
        for operation in block.operations:
            name, operands = operation.operation.name, list(operation.operands)
            values = [known.get(value) for value in operands]
            found.append(operation)
            returned = []
            if name in ("func.return", "stablehlo.return"):
                return values
            if name == "stablehlo.constant" and str(operation.result.type) == "tensor<i32>":
                returned = [int(np.asarray(operation.attributes["value"]).item())]
            elif name == "func.call":
                (called,) = functions[operation.attributes["callee"].value].regions[0].blocks
                returned = run(called, dict(zip(called.arguments, values, strict=True)))
            elif name == "stablehlo.case" and values[0] is not None:
                returned = run(operation.regions[values[0]].blocks[0], known)
            else:
                for region in operation.regions:
                    for inner in region.blocks:
                        run(inner, known)
            known |= zip(operation.results, returned, strict=False)
        return []

    (main,) = functions["main"].regions[0].blocks
    run(main, {})
    return found


def resizing_products(exported, platform: str, shape: tuple[int, ...], dtype) -> list[bool]:
    """Of each product in full precision that runs on a platform, whether it is one for an image."""
    image = jax.ShapeDtypeStruct(shape, dtype)
    lowered = jax.jit(exported.call).trace(image).lower(lowering_platforms=(platform,))
    products = [
        str(operation)
        for operation in operations_that_run(lowered.compiler_ir("stablehlo"))
        if operation.operation.name == "stablehlo.dot_general" and "HIGHEST" in str(operation)
    ]
    return ["batching_dims" in product for product in products]


def test_a_resize_of_open_sizes_is_each_platforms_own():
    b, h, w = jax_export.symbolic_shape("b, h, w")
    exported = jax_export.export(
        jax.jit(lambda x: resize_bilinear(x, (2 * h + 1, w + 3), align_corners=True)),
        platforms=PLATFORMS,
    )(jax.ShapeDtypeStruct((b, h, w, 4), jnp.float32))
    shape = (2, 5, 7, 4)
    found = {
        platform: resizing_products(exported, platform, shape, jnp.float32)
        for platform in PLATFORMS
    }
    assert found == {"cpu": [False, False], "cuda": [True, True], "tpu": [False, False]}
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    expected = resize_bilinear(x, (11, 10), align_corners=True)
    np.testing.assert_allclose(exported.call(x), expected, rtol=0, atol=1e-6)
    # Nothing is chosen while it runs.
    compiled = jax.jit(exported.call).lower(x).compile().as_text()
    assert "dot" in compiled
    assert "conditional" not in compiled


@pytest.mark.parametrize(
    "settings",
    [
        InferenceSettings(),
        InferenceSettings(short_side=40, base_size=60, scales=(1.0, 1.5), flip=True),
    ],
)
def test_nor_does_an_exported_model_resize_all_images_by_one_matrix_on_gpus(
    settings, light_compilation, tmp_path
):
    model = danet_jax.create_model(tiny_config().model)
    variables = random_variables(model)
    path = tmp_path / "model.stablehlo"
    FORMATS["stablehlo"].write(model, variables, settings, path)
    exported = jax_export.deserialize(bytearray(path.read_bytes()))
    on_gpu = resizing_products(exported, "cuda", (2, 50, 70, 3), jnp.uint8)
    on_cpu = resizing_products(exported, "cpu", (2, 50, 70, 3), jnp.uint8)
    # Two of each resize: one of the logits, or of image, two views and their sum.
    assert sum(on_gpu) - sum(on_cpu) >= (2 if settings.is_single_pass else 2 * 2 * 4)
    assert len(on_gpu) == len(on_cpu)
    assert all(on_gpu)
    image = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3)).astype(np.uint8)
    options = {"short_side": settings.short_side, "base_size": settings.base_size}
    predictor = Predictor(model, variables, scales=settings.scales, flip=settings.flip, **options)
    labels = np.asarray(exported.call(jnp.asarray(image))["labels"])
    assert np.mean(labels == predictor.labels(image)) > 0.999
