"""The original's training augmentation, first drawn, then applied: flip, resize, pad, crop.

The original resizes the whole image and throws most of it away. Here the crop window is drawn in
the coordinates of the resized image, and only the window is resampled: the same pixels, in a
fraction of the time.
"""

import dataclasses
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline import photometry
from danet_jax.input_pipeline.images import codec
from danet_jax.input_pipeline.labels import IGNORE_LABEL
from danet_jax.input_pipeline.photometry import NO_DISTORTION, Distortion

# This is what RandomCrop does in mmsegmentation 1.2.2.
MAX_REDRAWS = 10
_ROTATIONS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}
_JITTER_LIMITS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.5}


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """The fields of `config.data` that augmentation reads; see configs/common.py for meanings.

    Raises:
      DataError: a value that no augmentation can be made of.
    """

    crop_size: tuple[int, ...]
    base_size: int
    scale_range: tuple[float, ...]
    horizontal_flip: bool
    vertical_flip: bool
    rotate_90: bool
    brightness: float
    contrast: float
    saturation: float
    hue: float
    photometric_distortion: bool = False
    cat_max_ratio: float = 1.0

    @classmethod
    def of(cls, data_config: Any) -> "AugmentationConfig":
        """Copies the fields from an object that has them, such as `config.data`."""
        values = {f.name: getattr(data_config, f.name) for f in dataclasses.fields(cls)}
        for name in (*_JITTER_LIMITS, "cat_max_ratio"):
            values[name] = float(values[name])
        values["crop_size"] = tuple(values["crop_size"])
        values["scale_range"] = tuple(float(scale) for scale in values["scale_range"])
        return cls(**values)

    def __post_init__(self):
        if len(self.crop_size) != 2 or not all(size >= 1 for size in self.crop_size):
            raise DataError(f"data.crop_size is {self.crop_size}; give (height, width) in pixels")
        low, high = self.scale_range if len(self.scale_range) == 2 else (0, 0)
        if not 0 < low <= high:
            raise DataError(
                f"data.scale_range is {self.scale_range}; give (lowest, highest), above 0"
            )
        if int(self.base_size * low) < 1:
            raise DataError(
                f"data.base_size {self.base_size} x data.scale_range {low} leaves no pixel"
            )
        for name, limit in _JITTER_LIMITS.items():
            if not 0 <= getattr(self, name) <= limit:
                raise DataError(f"data.{name} is {getattr(self, name)}; give 0 to {limit:g}")
        if not 0 < self.cat_max_ratio <= 1:
            raise DataError(
                f"data.cat_max_ratio is {self.cat_max_ratio}; give more than 0, at most 1 (off)"
            )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The operations on one example, in this order.

    Sizes are (height, width). The image is flipped, turned by `turns` times 90° counter-clockwise,
    resized to `resized_size`, padded at the right and bottom to `crop_size` if it is smaller, and
    cut at `crop_origin` (y, x). The factors multiply; `hue` is added, and 1 is the whole circle.
    The distortion comes last.
    """

    flip_horizontally: bool
    flip_vertically: bool
    turns: int
    resized_size: tuple[int, int]
    crop_origin: tuple[int, int]
    crop_size: tuple[int, int]
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    distortion: Distortion = NO_DISTORTION


def draw_augmentation(
    rng: np.random.Generator, size: tuple[int, int], config: AugmentationConfig
) -> Augmentation:
    """Draws the augmentation of an image of `size` (height, width).

    The order of draws is horizontal flip, vertical flip, turns, short side, x and y of the crop,
    brightness, contrast, saturation, hue, distortion. All values are always drawn, so that enabling
    one leaves the others as they were.
    """
    flip_horizontally = bool(rng.random() < 0.5) and config.horizontal_flip
    flip_vertically = bool(rng.random() < 0.5) and config.vertical_flip
    turns = int(rng.integers(4)) * config.rotate_90
    height, width = size[::-1] if turns % 2 else size

    low, high = (int(config.base_size * scale) for scale in config.scale_range)
    short = int(rng.integers(low, high, endpoint=True))
    # The long side is rounded down, as in the original.
    if height > width:
        resized_size = (int(1.0 * height * short / width), short)
    else:
        resized_size = (short, int(1.0 * width * short / height))

    crop_h, crop_w = config.crop_size
    crop_origin = _draw_origin(rng, resized_size, (crop_h, crop_w))
    jitter = rng.uniform(-1, 1, size=4)
    distortion = photometry.draw_distortion(rng)
    return Augmentation(
        flip_horizontally=flip_horizontally,
        flip_vertically=flip_vertically,
        turns=turns,
        resized_size=resized_size,
        crop_origin=crop_origin,
        crop_size=(crop_h, crop_w),
        brightness=1 + config.brightness * jitter[0],
        contrast=1 + config.contrast * jitter[1],
        saturation=1 + config.saturation * jitter[2],
        hue=config.hue * jitter[3],
        distortion=distortion if config.photometric_distortion else NO_DISTORTION,
    )


def _draw_origin(
    rng: np.random.Generator, resized_size: tuple[int, int], crop_size: tuple[int, int]
) -> tuple[int, int]:
    x = int(rng.integers(0, max(resized_size[1] - crop_size[1], 0), endpoint=True))
    y = int(rng.integers(0, max(resized_size[0] - crop_size[0], 0), endpoint=True))
    return y, x


def redraw_crop(
    rng: np.random.Generator,
    label: UInt8[np.ndarray, "h w"],
    augmentation: Augmentation,
    *,
    cat_max_ratio: float,
) -> Augmentation:
    """Moves a crop that one class nearly fills, as mmsegmentation's RandomCrop(cat_max_ratio).

    The crop is drawn again, at most MAX_REDRAWS times, while one class has `cat_max_ratio` or more
    of its labelled pixels, or it contains fewer than two classes. The last draw is taken as it is.
    At 1 nothing is drawn.
    """
    if cat_max_ratio == 1:
        return augmentation
    for _ in range(MAX_REDRAWS):
        counts = codec.count_ids(_label_window(label, augmentation))[:IGNORE_LABEL]
        if np.count_nonzero(counts) > 1 and counts.max() / counts.sum() < cat_max_ratio:
            break
        origin = _draw_origin(rng, augmentation.resized_size, augmentation.crop_size)
        augmentation = dataclasses.replace(augmentation, crop_origin=origin)
    return augmentation


def apply_augmentation(
    image: UInt8[np.ndarray, "h w 3"], label: UInt8[np.ndarray, "h w"], augmentation: Augmentation
) -> tuple[UInt8[np.ndarray, "ch cw 3"], UInt8[np.ndarray, "ch cw"]]:
    """Applies an augmentation; padding is 0 in the image and IGNORE_LABEL in the label.

    Labels are exactly those of Pillow's NEAREST on the whole image. Image values are those of its
    BILINEAR except for ties: Pillow takes the corners of a window as float32, so about one value in
    a hundred rounds to the neighbouring grey level.
    """
    seen_label = _label_window(label, augmentation)
    seen_image = photometry.jitter_colors(
        _image_window(image, augmentation),
        brightness=augmentation.brightness,
        contrast=augmentation.contrast,
        saturation=augmentation.saturation,
        hue=augmentation.hue,
    )
    seen_image = photometry.distort_colors(seen_image, augmentation.distortion)
    height, width = seen_label.shape
    out_image = np.zeros((*augmentation.crop_size, 3), np.uint8)
    out_image[:height, :width] = seen_image
    out_label = np.full(augmentation.crop_size, IGNORE_LABEL, np.uint8)
    out_label[:height, :width] = seen_label
    return out_image, out_label


def _label_window(label: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Returns the part of a label inside the crop, without the padding."""
    rows, columns = (
        nearest_indices(axis.source, axis.target)[axis.start : axis.stop]
        for axis in _axes(augmentation, label)
    )
    part = _turned_part(
        label, augmentation, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    )
    return part.take(rows - rows[0], axis=0).take(columns - columns[0], axis=1)


def _image_window(image: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Returns the part of an image inside the crop, without the padding."""
    vertical, horizontal = _axes(augmentation, image)
    (top, bottom), rows = _source_range(vertical)
    (left, right), columns = _source_range(horizontal)
    part = Image.fromarray(np.ascontiguousarray(_turned_part(image, augmentation, rows, columns)))
    width, height = horizontal.stop - horizontal.start, vertical.stop - vertical.start
    # Columns and rows are resized in two calls. In one call Pillow would choose the order by cost,
    # which differs between a window and the whole image, and it rounds to 8 bits in between.
    for size, box in (
        ((width, part.height), (left, 0, right, part.height)),
        ((width, height), (0, top, width, bottom)),
    ):
        part = part.resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(part)


class _Axis(NamedTuple):
    """An axis: `source` pixels are resized to `target`, and the crop is from `start` to `stop`."""

    source: int
    target: int
    start: int
    stop: int


def _axes(augmentation: Augmentation, array: np.ndarray) -> tuple[_Axis, _Axis]:
    """Returns the vertical and the horizontal axis of an image or label after its turn."""
    sources = array.shape[:2][:: -1 if augmentation.turns % 2 else 1]
    vertical, horizontal = (
        _Axis(source, target, start, min(start + crop, target))
        for source, target, start, crop in zip(
            sources,
            augmentation.resized_size,
            augmentation.crop_origin,
            augmentation.crop_size,
            strict=True,
        )
    )
    return vertical, horizontal


def _turned_part(
    array: np.ndarray, augmentation: Augmentation, rows: slice, columns: slice
) -> np.ndarray:
    """Returns rows and columns of the flipped and turned array, and copies nothing else."""
    height, width = array.shape[:2]
    if augmentation.turns == 1:
        rows, columns = columns, _backwards(rows, width)
    elif augmentation.turns == 2:
        rows, columns = _backwards(rows, height), _backwards(columns, width)
    elif augmentation.turns == 3:
        rows, columns = _backwards(columns, height), rows
    if augmentation.flip_vertically:
        rows = _backwards(rows, height)
    if augmentation.flip_horizontally:
        columns = _backwards(columns, width)
    part = array[rows, columns]
    if augmentation.flip_horizontally:
        part = cv2.flip(part, 1)
    if augmentation.flip_vertically:
        part = cv2.flip(part, 0)
    if augmentation.turns:
        part = cv2.rotate(part, _ROTATIONS[augmentation.turns])
    return part


def _backwards(part: slice, size: int) -> slice:
    return slice(size - part.stop, size - part.start)


def nearest_indices(source: int, target: int) -> np.ndarray:
    """Returns which source pixel each target pixel shows in Pillow's NEAREST, int [target].

    Pillow adds up the step, pixel by pixel; multiplying would round differently at ties.
    """
    step = source / target
    steps = np.full(target, step)
    steps[0] = step * 0.5
    return np.add.accumulate(steps).astype(np.intp)


def _source_range(axis: _Axis) -> tuple[tuple[float, float], slice]:
    """Returns which part of the source the crop needs, and where the crop lies in that part.

    The part is a slice with a margin for the filter; coordinates are relative to it.
    """
    step = axis.source / axis.target
    # The filter reaches one pixel, or one step if that is more. One pixel is added for rounding.
    margin = int(max(step, 1.0)) + 2
    first = max(int(axis.start * step) - margin, 0)
    last = min(int(axis.stop * step) + margin, axis.source)
    start, stop = axis.start * step, min(axis.stop * step, float(axis.source))
    return (start - first, stop - first), slice(first, last)
