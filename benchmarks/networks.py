"""What all participants of a benchmark get: weights, arrays, a network's convolutions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

import danet_jax
from danet_jax.base.labels import IGNORE_LABEL
from danet_jax.configs import common
from danet_jax.models.attention import ChannelAttention, PositionAttention
from danet_jax.models.danet import DANet
from danet_jax.models.layers import Conv
from danet_jax.network import abstract_variables
from danet_jax.ops.implementation import NATIVE

Case = dict[str, Any]


def published(backbone: str) -> ml_collections.ConfigDict:
    """Returns the config of the network for Cityscapes' 19 classes."""
    config = common.get_config()
    config.model.backbone = backbone
    return config


def create(config: ml_collections.ConfigDict) -> tuple[DANet, dict[str, Any]]:
    """Returns the network and random weights, at which all of its parts matter."""
    model = danet_jax.create_model(config.model)
    generator = np.random.default_rng(0)

    def leaf(path, shape):
        name = path[-1].key
        if name == "kernel":
            # It is scaled in place, since memory is measured and the largest arrays are made here.
            kernel = generator.standard_normal(shape.shape, np.float32)
            kernel *= np.float32((2 / np.prod(shape.shape[:-1])) ** 0.5)
            return kernel
        if name == "scale" and path[-2].key == "bn3":
            # Residual branches add up over dozens of blocks.
            return np.full(shape.shape, 0.25, np.float32)
        if name in ("scale", "var"):
            return np.ones(shape.shape, np.float32)
        return np.full(shape.shape, 0.5 if name == "gamma" else 0, np.float32)

    return model, jax.tree_util.tree_map_with_path(leaf, abstract_variables(model))


def images(case: Case) -> np.ndarray:
    """Returns uint8 RGB [b, h, w, 3]."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (case["batch"], *case["size"], 3), dtype=np.uint8)


def batch(config: ml_collections.ConfigDict, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Returns normalised images [b, h, w, 3] and labels [b, h, w] of random areas."""
    generator = np.random.default_rng(0)
    image = generator.standard_normal((case["batch"], *case["size"], 3), np.float32)
    return image, _label(config, case, generator)


def loss_inputs(config: ml_collections.ConfigDict, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits at feature stride [b, h, w, s] and labels [b, H, W]."""
    generator = np.random.default_rng(0)
    coarse = [-(-side // config.model.output_stride) for side in case["size"]]
    shape = (case["batch"], *coarse, config.model.num_classes)
    return generator.standard_normal(shape, np.float32), _label(config, case, generator)


def _label(config: Any, case: Case, generator: np.random.Generator) -> np.ndarray:
    height, width = case["size"]
    shape = (case["batch"], -(-height // 8), -(-width // 8))
    label = generator.integers(0, config.model.num_classes + 1, shape)
    label = np.where(label == config.model.num_classes, IGNORE_LABEL, label).astype(np.uint8)
    return label.repeat(8, 1).repeat(8, 2)[:, :height, :width]


def attention_inputs(case: Case) -> list[np.ndarray]:
    """Returns queries, keys [b, n, c / 8] and values [b, n, c]."""
    generator = np.random.default_rng(0)
    b, n, c = case["batch"], case["positions"], case["channels"]
    widths = (max(c // 8, 1), max(c // 8, 1), c)
    return [0.3 * generator.standard_normal((b, n, width), np.float32) for width in widths]


def convolution_arrays(case: Case) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Returns a map, the gradient of the convolution's output, and the kernel's shape."""
    generator = np.random.default_rng(0)
    b, (h, w), stride = case["batch"], case["map"], case["stride"]
    x = generator.standard_normal((b, h, w, case["inputs"]), np.float32)
    output_shape = (b, -(-h // stride), -(-w // stride), case["outputs"])
    kernel = (case["kernel"], case["kernel"], case["inputs"], case["outputs"])
    return x, generator.standard_normal(output_shape, np.float32), kernel


def modules_called(
    config: ml_collections.ConfigDict, case: Case, *, train: bool
) -> list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]]:
    """Returns each convolution and attention with the shapes of its input and its output."""
    # Neither the implementations nor recomputation change which operations there are.
    model = danet_jax.create_model(config.model).clone(implementation=NATIVE)
    calls: list[tuple[nn.Module, tuple[int, ...], tuple[int, ...]]] = []

    def record_call(following, args, kwargs, context):
        output = following(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(
            context.module, Conv | PositionAttention | ChannelAttention
        ):
            calls.append((context.module, args[0].shape, output.shape))
        return output

    def apply(variables, image):
        with nn.intercept_methods(record_call):
            return model.apply(
                variables,
                image,
                train=train,
                rngs={"dropout": jax.random.key(0)},
                mutable=["batch_stats"] if train else False,
            )

    image = jax.ShapeDtypeStruct((case["batch"], *case["size"], 3), jnp.float32)
    jax.eval_shape(apply, abstract_variables(model), image)
    return calls


def operations(config: ml_collections.ConfigDict, case: Case, *, train: bool) -> float:
    """Returns the multiplications and additions of convolutions and attention in a step.

    They are counted as usual: two for each tap and output, whatever algorithm computes it, and
    twice as many backward as forward.
    """
    total = 0.0
    for module, x, y in modules_called(config, case, train=train):
        if isinstance(module, Conv):
            total += 2 * module.kernel_size**2 * x[-1] * float(np.prod(y))
            continue
        n, c = x[1] * x[2], x[3]
        if isinstance(module, PositionAttention):
            # The projections are convolutions.
            total += 2.0 * x[0] * n * n * (max(c // 8, 1) + c)
        else:
            total += 2.0 * x[0] * n * c * c * 2
    return total * (3 if train else 1)


def convolutions(config: ml_collections.ConfigDict, case: Case) -> list[Case]:
    """Returns the distinct convolutions with more than one tap, and how often each occurs."""
    counts: dict[tuple, int] = {}
    for module, x, y in modules_called(config, case, train=True):
        if isinstance(module, Conv) and module.kernel_size > 1:
            spatial = (module.kernel_size, module.stride, module.dilation)
            key = (x[1:3], x[3], y[3], *spatial)
            counts[key] = counts.get(key, 0) + 1
    names = ("map", "inputs", "outputs", "kernel", "stride", "dilation")
    return [dict(zip(names, key, strict=True)) | {"times": n} for key, n in counts.items()]
