"""This project's workloads, which are timed beside those of `torch_cases`."""

import contextlib
import functools
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

import danet_jax
from benchmarks import networks
from benchmarks.workload import Workload
from danet_jax import input_pipeline
from danet_jax.ops.convolution import convolve
from danet_jax.ops.implementation import Implementation
from danet_jax.ops.position_attention import position_attention
from danet_jax.platform import Target, compiler_options, implementation, logit_bytes
from danet_jax.runtime import compilation, devices, parallel
from danet_jax.training import losses
from danet_jax.training.setup import set_up

# The length of the learning rate schedule, which no time depends on.
TOTAL_STEPS = 1000


def device_peak() -> int | None:
    """Returns the bytes that an accelerator's memory held at most, None on CPU."""
    statistics = jax.local_devices()[0].memory_stats()
    return None if statistics is None else statistics["peak_bytes_in_use"]


def train(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """A training step, compiled as `train` compiles it; its value is the loss."""
    mesh = parallel.create_mesh(space=config.mesh.space)
    parallel.check_divisible(mesh, batch_size=case["batch"], height=case["size"][0])
    with jax.set_mesh(mesh):
        image, label = networks.batch(config, case)
        batch = parallel.put_batch({"image": image, "label": label}, mesh)
        setup = set_up(config, mesh, TOTAL_STEPS)
        compiled: Any = setup.cached_step(batch).compiled
        temporaries = compiled.program.memory_analysis().temp_size_in_bytes
        # The analysis itself takes more than a hundred megabytes, which no run spends.
        compilation.trim_heap()
        _, variables = networks.create(config)
        state = setup.create_state(variables)
    del variables
    jax.block_until_ready(state)
    compilation.trim_heap()

    def call():
        nonlocal state
        state, metrics = compiled(state, batch)
        return float(metrics["loss"])

    return Workload(call, temporaries)


def infer(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """Labels of images, from the host's memory and back to it."""
    predictor = danet_jax.Predictor(*networks.create(config))
    images = networks.images(case)
    return Workload(lambda: int(predictor.labels(images).sum()))


def attention(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """Position attention alone, or with its gradients with respect to queries, keys and values."""
    arrays = [jnp.asarray(array, config.model.dtype) for array in networks.attention_inputs(case)]
    attend = functools.partial(
        position_attention, implementation=_implementation(config, position_attention=variant)
    )
    if not case["gradient"]:
        return _compiled(attend, *arrays)

    def with_gradient(query, key, value, grad_output):
        y, vjp = jax.vjp(attend, query, key, value)
        return y, vjp(grad_output)

    return _compiled(with_gradient, *arrays, arrays[-1])


def conv(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """The weight gradient of a convolution, by one method; "auto" is the choice of training.

    The convolution itself is computed as well where the case asks for it.
    """
    *arrays, shape = networks.convolution_arrays(case)
    x, grad_output = (jnp.asarray(array, config.model.dtype) for array in arrays)
    kernel = jnp.zeros(shape, config.model.dtype)

    def kernel_gradient(x, kernel, grad_output):
        def convolved(kernel):
            return convolve(
                x,
                kernel,
                stride=case["stride"],
                dilation=case["dilation"],
                implementation=_implementation(config, conv_weight_gradient=variant),
            )

        y, vjp = jax.vjp(convolved, kernel)
        return (y if case.get("forward") else None), vjp(grad_output)

    return _compiled(kernel_gradient, x, kernel, grad_output)


def loss(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """The loss of one map of logits and its gradient, at once or by blocks of rows."""
    logits, label = (jnp.asarray(array) for array in networks.loss_inputs(config, case))
    frozen = ml_collections.FrozenConfigDict(config.loss)

    def fused(logits, label):
        return losses.segmentation_losses(
            {"fused": logits},
            label,
            frozen,
            align_corners=config.model.align_corners,
            logit_bytes=None if variant == "plain" else logit_bytes(config.loss, Target.here()),
        )[0]

    return _compiled(jax.grad(fused), logits, label)


def _implementation(config: ml_collections.ConfigDict, **fields: Any) -> Implementation:
    """The implementation for the devices here, with some fields of config.model changed."""
    model_config = config.model.copy_and_resolve_references()
    model_config.update(fields)
    return implementation(model_config, Target.here())


def _compiled(function: Callable, *arrays: jax.Array) -> Workload:
    compiled = (
        jax.jit(function).lower(*arrays).compile(compiler_options=compiler_options(Target.here()))
    )

    def call():
        jax.block_until_ready(compiled(*arrays))

    analysis: Any = compiled.memory_analysis()
    temporaries = analysis.temp_size_in_bytes
    return Workload(
        call,
        temporaries,
        arrays=lambda: [np.asarray(x) for x in jax.tree.leaves(compiled(*arrays))],
    )


def matmul(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """A large product of matrices, the most that a machine computes; its value has operations."""
    platform = Target.here().platform
    side = 2048 if platform == "cpu" else 8192
    x = jnp.asarray(np.random.default_rng(0).standard_normal((side, side)), config.model.dtype)
    product = _compiled(lambda x: x @ x, x)

    def call():
        product.call()
        devices.check()
        device = jax.devices()[0]
        return {
            "operations": 2 * side**3,
            "platform": platform,
            "device": device.device_kind,
        }

    return Workload(call)


def input_batches(
    config: ml_collections.ConfigDict, case: dict[str, Any], variant: str
) -> Workload:
    """A training batch, made by threads of the main process or by worker processes."""
    units = os.cpu_count() or 1
    fields = config.data.copy_and_resolve_references()
    # One thread for each worker, as in PyTorch.
    fields.update(num_threads=units, num_workers=units if variant == "workers" else 0)
    fields.crop_size = tuple(case["size"])
    split = input_pipeline.open_split(fields.name, fields.train_split, data_dir=fields.data_dir)

    def seconds():
        stream = input_pipeline.TrainingStream(split, fields, batch_size=case["batch"], seed=0)
        with contextlib.closing(stream):
            return seconds_of_batch(stream, units)

    return Workload(seconds, seconds=seconds)


def seconds_of_batch(stream: Iterator, units: int) -> float:
    """Returns the seconds that a batch takes, once the batches made in advance are used up.

    Args:
      stream: the batches, of which each unit makes up to two in advance.
      units: the number of threads or processes that make them.
    """
    for _ in itertools.islice(stream, 2 * units + 2):
        pass
    # Units may finish at the same time, so each is counted equally often.
    counted = units * max(8 // units, 2)
    start = time.perf_counter()
    for _ in itertools.islice(stream, counted):
        pass
    return (time.perf_counter() - start) / counted


BUILDERS = {
    "train": train,
    "infer": infer,
    "attention": attention,
    "conv": conv,
    "loss": loss,
    "input": input_batches,
    "matmul": matmul,
}
