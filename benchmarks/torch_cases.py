"""The same workloads in PyTorch, eager and compiled, and with mmsegmentation's network."""

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
import torch
from PIL import Image
from torch.nn import functional
from torch.utils import data

import danet_jax
from benchmarks import mmsegmentation, networks, torch_input, torch_networks
from benchmarks.jax_cases import seconds_of_batch
from benchmarks.workload import Workload
from danet_jax import input_pipeline
from danet_jax.base.imagenet import MEAN, STD
from danet_jax.base.labels import IGNORE_LABEL
from danet_jax.input_pipeline import transforms
from danet_jax.interop.torch_danet import TorchDANet
from danet_jax.training.losses import LOGITS

# Images that are written as files for PyTorch's input.
INPUT_FILES = 24
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")


if CUDA:
    # XLA does the same by default.
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")


def check(platform: str) -> None:
    """Raises a RuntimeError where JAX has an accelerator that PyTorch does not find."""
    if platform != "cpu" and not CUDA:
        raise RuntimeError(f"this PyTorch finds no {platform.upper()}")


def device_peak() -> int | None:
    """Returns the bytes that an accelerator's memory held at most, None on CPU."""
    return torch.cuda.max_memory_allocated() if CUDA else None


def train(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """A training step in channels last; its value is the loss."""
    _, logits, parameters = _network(config, variant, train=True)
    rate = config.optimizer.learning_rate
    groups = [
        {"params": part, "lr": rate * factor}
        for part, factor in zip(parameters, (1, config.optimizer.head_factor), strict=True)
    ]
    optimizer = torch.optim.SGD(
        groups, momentum=config.optimizer.momentum, weight_decay=config.optimizer.weight_decay
    )
    image, label = (torch.from_numpy(array) for array in networks.batch(config, case))
    image = image.to(DEVICE).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    label = label.long().to(DEVICE)
    weights = {name: config.loss[f"{name}_weight"] for name in LOGITS}

    def loss_of(image, label):
        with _autocast(config):
            maps = logits(image)
        return sum(
            weights[name] * _cross_entropy(x.float(), label, config) for name, x in maps.items()
        )

    if variant == "compiled":
        loss_of = torch.compile(loss_of)

    def call():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(image, label)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return Workload(call)


def _cross_entropy(logits: torch.Tensor, label: torch.Tensor, config: Any) -> torch.Tensor:
    full = functional.interpolate(
        logits, size=label.shape[1:], mode="bilinear", align_corners=config.model.align_corners
    )
    return functional.cross_entropy(full, label, ignore_index=IGNORE_LABEL)


def infer(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """Labels of images, from the host's memory and back to it."""
    network, logits, _ = _network(config, variant, train=False)
    layout = torch.channels_last
    if variant == "eager" and not CUDA:
        layout = torch_networks.faster_layout(network, tuple(case["size"]))
    mean, std = (
        torch.tensor(values, device=DEVICE)[None, :, None, None] * 255 for values in (MEAN, STD)
    )
    images = networks.images(case)

    def labels_of(pixels):
        pixels = ((pixels.permute(0, 3, 1, 2).float() - mean) / std).contiguous(
            memory_format=layout
        )
        with _autocast(config):
            coarse = logits(pixels)["fused"].float()
        full = functional.interpolate(
            coarse,
            size=pixels.shape[2:],
            mode="bilinear",
            align_corners=config.model.align_corners,
        )
        return full.argmax(1).to(torch.uint8)

    if variant == "compiled":
        labels_of = torch.compile(labels_of)

    def call():
        with torch.inference_mode():
            return int(labels_of(torch.from_numpy(images).to(DEVICE)).cpu().numpy().sum())

    return Workload(call)


def _network(
    config: ml_collections.ConfigDict, variant: str, *, train: bool
) -> tuple[torch.nn.Module, Callable, tuple[list, list]]:
    """Returns a network, a function from images to its logits by this project's names, and the
    parameters of its backbone and of its head."""
    if variant == "mmsegmentation":
        depth = int(config.model.backbone.removeprefix("resnet"))
        network = mmsegmentation.encoder_decoder(
            depth, num_classes=config.model.num_classes, dropout=config.model.dropout_rate
        )
        logits = functools.partial(mmsegmentation.logits, network, auxiliary=train)
        backbone = list(network.backbone.parameters())
    else:
        model, variables = networks.create(config)
        logits = network = TorchDANet(model)
        arrays = danet_jax.to_torch(variables, model)
        del variables
        network.load_state_dict({n: torch.from_numpy(a) for n, a in arrays.items()}, strict=False)
        backbone = list(network.pretrained.parameters())
    network.train(train).to(DEVICE).to(memory_format=torch.channels_last)
    backbone_ids = {id(parameter) for parameter in backbone}
    head = [p for p in network.parameters() if id(p) not in backbone_ids]
    return network, logits, (backbone, head)


def position_attention(
    config: ml_collections.ConfigDict, case: dict[str, Any], variant: str
) -> Workload:
    """Position attention, written out or by PyTorch's own function, and its gradient if asked."""
    query, key, value = (
        torch.from_numpy(array).to(DEVICE, _dtype(config))
        for array in networks.attention_inputs(case)
    )

    grad_output = value.clone()

    def attend(query, key, value):
        if variant == "sdpa":
            return functional.scaled_dot_product_attention(query, key, value, scale=1.0)
        return torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value

    def compute():
        if case["gradient"]:
            for x in (query, key, value):
                x.requires_grad_().grad = None
            y = attend(query, key, value)
            y.backward(grad_output)
            return [y.detach(), query.grad, key.grad, value.grad]
        with torch.inference_mode():
            return [attend(query, key, value)]

    return _workload(compute)


def conv(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """The weight gradient of a convolution."""
    x, grad_output, (k, _, inputs, outputs) = networks.convolution_arrays(case)
    x, grad_output = (
        torch.from_numpy(array)
        .to(DEVICE, _dtype(config))
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=torch.channels_last)
        for array in (x, grad_output)
    )
    pad = case["dilation"] * (k - 1) // 2
    kernel = torch.zeros((outputs, inputs, k, k), dtype=x.dtype, device=DEVICE)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    spatial = ([case["stride"]] * 2, [pad] * 2, [case["dilation"]] * 2)

    def compute():
        _, grad_kernel, _ = torch.ops.aten.convolution_backward(
            grad_output, x, kernel, None, *spatial, False, [0, 0], 1, [False, True, False]
        )
        return [grad_kernel.permute(2, 3, 1, 0)]

    return _workload(compute)


def loss(config: ml_collections.ConfigDict, case: dict[str, Any], variant: str) -> Workload:
    """The loss of one map of logits and its gradient."""
    logits, label = (
        torch.from_numpy(array).to(DEVICE) for array in networks.loss_inputs(config, case)
    )
    logits = logits.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    label = label.long()

    def compute():
        logits.requires_grad_().grad = None
        _cross_entropy(logits, label, config).backward()
        return [logits.grad.permute(0, 2, 3, 1)]

    return _workload(compute)


def _workload(compute: Callable[[], list[torch.Tensor]]) -> Workload:
    def call():
        compute()
        _wait()

    return Workload(call, arrays=lambda: [x.float().cpu().numpy() for x in compute()])


def input_batches(
    config: ml_collections.ConfigDict, case: dict[str, Any], variant: str
) -> Workload:
    """A batch of the original's transforms in a DataLoader, from PNG files of the same images."""
    units = os.cpu_count() or 1
    fields = config.data.copy_and_resolve_references()
    fields.crop_size = tuple(case["size"])
    split = input_pipeline.open_split(fields.name, fields.train_split, data_dir=fields.data_dir)
    # The folder is removed with the workload, whose function refers to it.
    folder = tempfile.TemporaryDirectory()
    pairs = []
    for index in range(min(len(split), INPUT_FILES)):
        example = split[index]
        image, label = (Path(folder.name) / f"{index}_{part}.png" for part in ("image", "label"))
        for path, part in ((image, "image"), (label, "label")):
            Image.fromarray(np.asarray(example[part])).save(path)
        pairs.append((image, label))
    augmentation = transforms.AugmentationConfig.of(fields)
    dataset = torch_input.PillowPairs(pairs, augmentation, length=10**6)

    def seconds():
        loader = data.DataLoader(dataset, batch_size=case["batch"], num_workers=units)
        iterator = iter(loader)
        try:
            return seconds_of_batch(iterator, units)
        finally:
            iterator._shutdown_workers()
            assert folder.name

    return Workload(seconds, seconds=seconds)


def _dtype(config: Any) -> torch.dtype:
    return getattr(torch, config.model.dtype)


def _autocast(config: Any) -> contextlib.AbstractContextManager:
    if config.model.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(DEVICE.type, dtype=_dtype(config))


def _wait() -> None:
    if CUDA:
        torch.cuda.synchronize()


BUILDERS = {
    "train": train,
    "infer": infer,
    "attention": position_attention,
    "conv": conv,
    "loss": loss,
    "input": input_batches,
}
