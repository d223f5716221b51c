"""The published training input as its users know it: PyTorch's DataLoader over Pillow."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils import data

from danet_jax.base.imagenet import MEAN, STD
from danet_jax.input_pipeline import transforms
from danet_jax.input_pipeline.labels import IGNORE_LABEL


class PillowPairs(data.Dataset):
    """Pairs of PNG files, transformed by the original's rule (v0.5.0): float images, long labels.

    Flip, scale and crop are drawn as this project draws them, which takes microseconds; they are
    applied to the whole image: flip, resize, pad, crop, normalise.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[Path, Path]],
        config: transforms.AugmentationConfig,
        *,
        length: int,
    ):
        self._pairs = pairs
        self._config = config
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image, label = read_pair(self._pairs[index % len(self._pairs)])
        drawn = transforms.draw_augmentation(
            np.random.default_rng(index), (image.height, image.width), self._config
        )
        return transform(image, label, drawn)


def read_pair(pair: tuple[Path, Path]) -> tuple[Image.Image, Image.Image]:
    """Returns an image and its label, decoded."""
    with Image.open(pair[0]) as image, Image.open(pair[1]) as label:
        label.load()
        return image.convert("RGB"), label


def transform(
    image: Image.Image, label: Image.Image, drawn: transforms.Augmentation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns a normalised image [3, h, w] and its label [h, w] of train ids."""
    if drawn.flip_horizontally:
        image, label = ImageOps.mirror(image), ImageOps.mirror(label)
    height, width = drawn.resized_size
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    label = label.resize((width, height), Image.Resampling.NEAREST)
    crop_height, crop_width = drawn.crop_size
    if height < crop_height or width < crop_width:
        border = (0, 0, max(crop_width - width, 0), max(crop_height - height, 0))
        image = ImageOps.expand(image, border, fill=0)
        label = ImageOps.expand(label, border, fill=IGNORE_LABEL)
    y, x = drawn.crop_origin
    box = (x, y, x + crop_width, y + crop_height)
    return normalized(image.crop(box)), torch.from_numpy(np.array(label.crop(box), np.int64))


def normalized(image: Image.Image) -> torch.Tensor:
    """Returns what torchvision's ToTensor and Normalize return, in the same operations."""
    pixels = torch.from_numpy(np.array(image, np.uint8)).permute(2, 0, 1).contiguous()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return pixels.float().div(255).sub_(mean).div_(std)
