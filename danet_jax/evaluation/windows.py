"""Where an image is looked at: its size at each scale, and windows of one size over it."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8

from danet_jax.models.danet import MEAN, STD

# What is outside of an image: black, normalised.
BLACK = -np.array(MEAN, np.float32) / np.array(STD, np.float32)


def scaled_size(size: tuple[int, int], scale: float, *, base_size: int | None) -> tuple[int, int]:
    """Returns the size at a scale: the long side is ceil(base_size * scale), as in the original.

    Without a base_size it is the image's own long side that is scaled.
    """
    height, width = size
    long_side = max(height, width)
    target = math.ceil((base_size or long_side) * scale)
    short = int(min(height, width) * target / long_side + 0.5)
    # A sliver keeps one row.
    short = max(short, 1)
    return (target, short) if height > width else (short, target)


def normalized(
    image: UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"],
) -> Float[np.ndarray, "h w 3"]:
    """Normalises uint8 RGB to float32, as the network does; a float image is that already."""
    if image.dtype != np.uint8:
        return image.astype(np.float32)
    mean, std = (255 * np.array(values, np.float32) for values in (MEAN, STD))
    return (image - mean) / std


@dataclasses.dataclass(frozen=True)
class Grid:
    """Windows of one size over an image of another.

    A window's part outside of the image is filled with black and its scores are dropped.
    """

    # Height and width of the image, and of a window.
    size: tuple[int, int]
    crop: tuple[int, int]
    # Top left corners.
    corners: tuple[tuple[int, int], ...]

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of what the windows cover, from the image's top left corner."""
        tops, lefts = zip(*self.corners, strict=True)
        return max(tops) + self.crop[0], max(lefts) + self.crop[1]

    def counts(self) -> Int[np.ndarray, "h w"]:
        """Returns how many windows cover each pixel."""
        counts = np.zeros(self.size, np.int32)
        for top, left in self.corners:
            counts[top : top + self.crop[0], left : left + self.crop[1]] += 1
        return counts

    def cut(
        self, image: Float[np.ndarray, "h w 3"], corner: tuple[int, int]
    ) -> Float[np.ndarray, "{self.crop[0]} {self.crop[1]} 3"]:
        """Returns one window of a normalised image."""
        top, left = corner
        inside = image[top : top + self.crop[0], left : left + self.crop[1]]
        if inside.shape[:2] == self.crop:
            return inside
        window = np.empty((*self.crop, 3), np.float32)
        window[:] = BLACK
        window[: inside.shape[0], : inside.shape[1]] = inside
        return window


def grid(size: tuple[int, int], crop: int, *, stride: int, overhang: bool) -> Grid:
    """Returns the windows that cover an image.

    Args:
      size: height and width of the image at its scale.
      crop: of a window's sides.
      stride: between windows.
      overhang: the last window reaches beyond the image, as in the original, where others shift it
        back inside.
    """
    tops, lefts = (_starts(side, crop, stride, overhang) for side in size)
    return Grid(size, (crop, crop), tuple((top, left) for top in tops for left in lefts))


def _starts(side: int, crop: int, stride: int, overhang: bool) -> Sequence[int]:
    count = max(math.ceil((side - crop) / stride), 0) + 1
    starts = [stride * index for index in range(count)]
    return starts if overhang else [max(min(start, side - crop), 0) for start in starts]


def original_grid(size: tuple[int, int], crop: int, *, several_scales: bool) -> Grid:
    """Returns the original's windows: strides of 2/3 of the crop for one scale, 1/2 for several."""
    return grid(size, crop, stride=int(crop * (0.5 if several_scales else 2 / 3)), overhang=True)
