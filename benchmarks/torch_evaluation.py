"""The published evaluation as its users know it: PyTorch eager, one window after the other."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from danet_jax.base.imagenet import MEAN, STD
from danet_jax.interop.torch_danet import TorchDANet


def labels(
    network: TorchDANet,
    image: np.ndarray,
    *,
    base_size: int,
    crop_size: int,
    scales: Sequence[float],
    layout: torch.memory_format,
) -> np.ndarray:
    """Returns the labels [h, w] of a uint8 image [h, w, 3] by the original's rule (v0.5.0)."""
    mean, std = (255 * torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels = (torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32)) - mean) / std
    black = -mean / std

    def padded(window: torch.Tensor) -> torch.Tensor:
        height, width = (max(side, crop_size) for side in window.shape[2:])
        whole = black.expand(1, 3, height, width).clone()
        whole[:, :, : window.shape[2], : window.shape[3]] = window
        return whole

    def infer(window: torch.Tensor) -> torch.Tensor:
        def logits(x):
            coarse = network(x.contiguous(memory_format=layout))["fused"]
            return functional.interpolate(
                coarse, size=x.shape[2:], mode="bilinear", align_corners=True
            )

        return (logits(window) + logits(window.flip(3)).flip(3)).exp()

    def resized(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)

    height, width = image.shape[:2]
    total: Any = 0.0
    with torch.inference_mode():
        for scale in scales:
            long_side = math.ceil(base_size * scale)
            short_side = int(min(height, width) * long_side / max(height, width) + 0.5)
            size = (long_side, short_side) if height > width else (short_side, long_side)
            scaled = resized(pixels, size)
            if long_side <= crop_size:
                scores = infer(padded(scaled))
            else:
                whole = padded(scaled) if min(size) < crop_size else scaled
                stride = int(crop_size * (2 / 3 if len(scales) == 1 else 1 / 2))
                rows, columns = (
                    math.ceil((side - crop_size) / stride) + 1 for side in whole.shape[2:]
                )
                scores = torch.zeros((1, network_classes(network), *whole.shape[2:]))
                counts = torch.zeros((1, 1, *whole.shape[2:]))
                for row in range(rows):
                    for column in range(columns):
                        corner = (
                            ...,
                            slice(row * stride, row * stride + crop_size),
                            slice(column * stride, column * stride + crop_size),
                        )
                        window = whole[corner]
                        added = infer(padded(window))
                        scores[corner] += added[..., : window.shape[2], : window.shape[3]]
                        counts[corner] += 1
                scores = scores / counts
            total = total + resized(scores[..., : size[0], : size[1]], (height, width))
        return total.argmax(1)[0].to(torch.uint8).numpy()


def network_classes(network: TorchDANet) -> int:
    """Returns the number of classes that a network tells apart."""
    return [p for p in network.head.parameters() if p.ndim == 4][-1].shape[0]
