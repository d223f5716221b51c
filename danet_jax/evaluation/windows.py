"""The size of an image at each scale, the windows over it, and the pixels of the windows."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from danet_jax.models.danet import standardize
from danet_jax.ops.resize import taps


def scaled_size(
    size: tuple[int, int], scale: float, *, base_size: int | None, short_side: int | None = None
) -> tuple[int, int]:
    """Returns the size at a scale: the long side is ceil(base_size * scale), as in the original.

    Without a base_size the image's own long side is scaled. With a short_side the short side is
    that times the scale, or less where the long side would exceed base_size, as in mmsegmentation's
    `Resize` with keep_ratio, whose scale is (base_size, short_side).
    """
    height, width = size
    long_side = max(height, width)
    if short_side is not None:
        factor = max(int(short_side * scale), 1) / min(height, width)
        if base_size is not None:
            factor = min(max(int(base_size * scale), 1) / long_side, factor)
        # At least one row and one column are kept.
        return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)
    target = math.ceil((base_size or long_side) * scale)
    short = int(min(height, width) * target / long_side + 0.5)
    # At least one row and one column are kept.
    short = max(short, 1)
    return (target, short) if height > width else (short, target)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Windows of one size over an image.

    Pixels outside the image are black, and their scores are discarded.
    """

    # Height and width of the image, and of a window.
    size: tuple[int, int]
    crop: tuple[int, int]
    # First rows and first columns of the windows; each pair of them has a window.
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    @property
    def covered(self) -> tuple[int, int]:
        """Height and width of what the windows cover, from the image's top left corner."""
        return self.tops[-1] + self.crop[0], self.lefts[-1] + self.crop[1]

    def counts(self) -> tuple[Int[np.ndarray, " h"], Int[np.ndarray, " w"]]:
        """Returns how many windows cover each row and each column.

        The pixel (i, j) lies in rows[i] * columns[j] windows.
        """
        rows, columns = (np.zeros(side, np.int32) for side in self.covered)
        for top in self.tops:
            rows[top : top + self.crop[0]] += 1
        for left in self.lefts:
            columns[left : left + self.crop[1]] += 1
        return rows, columns


def grid(size: tuple[int, int], crop: int, *, stride: int, overhang: bool) -> Grid:
    """Returns the windows that cover an image.

    Args:
      size: height and width of the image at its scale.
      crop: height and width of a window.
      stride: distance between neighbouring windows.
      overhang: whether the last window may reach beyond the image, as in the original; else it is
        shifted back inside.
    """
    tops, lefts = (_starts(side, crop, stride, overhang) for side in size)
    return Grid(size, (crop, crop), tops, lefts)


def _starts(side: int, crop: int, stride: int, overhang: bool) -> tuple[int, ...]:
    number = count(side, crop, stride)
    last = stride * (number - 1) if overhang else max(side - crop, 0)
    return tuple(min(stride * index, last) for index in range(number))


def count(side: int, crop: int, stride: int) -> int:
    """Returns how many windows lie along a side of the image."""
    return max(-(-(side - crop) // stride), 0) + 1


def original_stride(crop: int, *, several_scales: bool) -> int:
    """Returns the original's stride: 2/3 of the crop for one scale, 1/2 for several."""
    return max(int(crop * (0.5 if several_scales else 2 / 3)), 1)


def original_grid(size: tuple[int, int], crop: int, *, several_scales: bool) -> Grid:
    """Returns the original's windows, of which the last ones overhang."""
    stride = original_stride(crop, several_scales=several_scales)
    return grid(size, crop, stride=stride, overhang=True)


# --- the pixels of a window ----------------------------------------------------------------------


class Taps(NamedTuple):
    """Linear interpolation along one axis: two source pixels for each pixel of a resized image."""

    # Indices of the two pixels; -1 outside the image.
    low: Int[np.ndarray, "..."]
    high: Int[np.ndarray, "..."]
    # The weight of `high`; that of `low` is one minus it.
    weight: Float[np.ndarray, "..."]

    def cut(self, start: int, length: int) -> "Taps":
        """Returns the part that a window covers."""
        return Taps(*(values[start : start + length] for values in self))


def padded_taps(size_in: int, size_out: int, covered: int, *, align_corners: bool) -> Taps:
    """Returns the taps from size_in to size_out, extended to `covered`, where the windows end."""
    low, high, weight = taps(size_in, size_out, align_corners=align_corners)
    outside = (0, max(covered - size_out, 0))
    return Taps(
        np.pad(low.astype(np.int32), outside, constant_values=-1),
        np.pad(high.astype(np.int32), outside, constant_values=-1),
        np.pad(weight.astype(np.float32), outside),
    )


def stack(taps: Sequence[Taps], rows: int) -> Taps:
    """Returns the taps of a batch of windows, filled up with zeros to its full size."""
    missing = (0, rows - len(taps))
    return Taps(
        *(np.pad(np.stack(values), (missing, (0, 0))) for values in zip(*taps, strict=True))
    )


@jax.jit
def extract(
    images: UInt8[Array, "n H W 3"] | Float[Array, "n H W 3"],
    image_index: Int[Array, " b"],
    rows: Taps,
    columns: Taps,
) -> Float[Array, "b h w 3"]:
    """Returns normalised windows of resized images, bilinear without antialiasing.

    Args:
      images: uint8 RGB, or floats that are normalised already.
      image_index: the index of each window's image.
      rows: the rows of each window, [b, h].
      columns: the columns of each window, [b, w].
    """

    def pixels(row, column):
        gathered = images[image_index[:, None, None], row[:, :, None], column[:, None, :]]
        return gathered.astype(jnp.float32)

    weight = columns.weight[:, None, :, None]
    upper, lower = (
        pixels(row, columns.low) * (1 - weight) + pixels(row, columns.high) * weight
        for row in (rows.low, rows.high)
    )
    weight = rows.weight[:, :, None, None]
    interpolated = upper * (1 - weight) + lower * weight
    if images.dtype == jnp.uint8:
        interpolated = standardize(interpolated)
    inside = (rows.low >= 0)[:, :, None] & (columns.low >= 0)[:, None, :]
    black = standardize(jnp.zeros((1, 1, 1, 3), jnp.float32))
    return jnp.where(inside[..., None], interpolated, black)
