"""Training augmentation of the original: flip, resize, pad, crop; first drawn, then applied.

The original resizes the whole image and throws most of it away. Here the crop window is drawn in
the coordinates of the resized image, and only what it shows is resampled: the same pixels, for a
fraction of the time.
"""

import dataclasses
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from input_pipeline.errors import DataError
from input_pipeline.labels import IGNORE_LABEL

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

    @classmethod
    def of(cls, data_config: Any) -> "AugmentationConfig":
        """Copies the fields from an object that has them, such as `config.data`."""
        values = {f.name: getattr(data_config, f.name) for f in dataclasses.fields(cls)}
        for name in _JITTER_LIMITS:
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


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to one example, in this order.

    Sizes are (height, width). The image is flipped, turned by `turns` times 90° counter-clockwise,
    resized to `resized_size`, padded right and bottom to `crop_size` where it is smaller, cut at
    `crop_origin` (y, x). The factors multiply; `hue` is added, 1 being the whole circle.
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


def draw_augmentation(
    rng: np.random.Generator, size: tuple[int, int], config: AugmentationConfig
) -> Augmentation:
    """Draws the augmentation of an image of `size` (height, width).

    Order of draws: horizontal flip, vertical flip, turns, short side, x and y of the crop,
    brightness, contrast, saturation, hue. All are drawn whether in use or not, so that switching
    one on leaves the others as they were.
    """
    flip_horizontally = bool(rng.random() < 0.5) and config.horizontal_flip
    flip_vertically = bool(rng.random() < 0.5) and config.vertical_flip
    turns = int(rng.integers(4)) * config.rotate_90
    height, width = size[::-1] if turns % 2 else size

    low, high = (int(config.base_size * scale) for scale in config.scale_range)
    short = int(rng.integers(low, high, endpoint=True))
    # The long side is rounded down as in the original.
    if height > width:
        resized_size = (int(1.0 * height * short / width), short)
    else:
        resized_size = (short, int(1.0 * width * short / height))

    crop_h, crop_w = config.crop_size
    x = int(rng.integers(0, max(resized_size[1] - crop_w, 0), endpoint=True))
    y = int(rng.integers(0, max(resized_size[0] - crop_h, 0), endpoint=True))
    jitter = rng.uniform(-1, 1, size=4)
    return Augmentation(
        flip_horizontally=flip_horizontally,
        flip_vertically=flip_vertically,
        turns=turns,
        resized_size=resized_size,
        crop_origin=(y, x),
        crop_size=(crop_h, crop_w),
        brightness=1 + config.brightness * jitter[0],
        contrast=1 + config.contrast * jitter[1],
        saturation=1 + config.saturation * jitter[2],
        hue=config.hue * jitter[3],
    )


def apply_augmentation(
    image: UInt8[np.ndarray, "h w 3"], label: UInt8[np.ndarray, "h w"], augmentation: Augmentation
) -> tuple[UInt8[np.ndarray, "ch cw 3"], UInt8[np.ndarray, "ch cw"]]:
    """Applies what was drawn; padding is 0 in the image and IGNORE_LABEL in the label.

    Labels are exactly those of Pillow's NEAREST on the whole image, image values those of its
    BILINEAR but for ties: it takes a window's corners as float32, and so about one value in a
    hundred rounds to the neighbouring grey level.
    """
    image, label = (_turn(array, augmentation) for array in (image, label))
    height, width = augmentation.resized_size
    y, x = augmentation.crop_origin
    bottom = min(y + augmentation.crop_size[0], height)
    right = min(x + augmentation.crop_size[1], width)

    rows = nearest_indices(label.shape[0], height)[y:bottom]
    columns = nearest_indices(label.shape[1], width)[x:right]
    out_label = np.full(augmentation.crop_size, IGNORE_LABEL, np.uint8)
    out_label[: rows.size, : columns.size] = label.take(rows, axis=0).take(columns, axis=1)

    window = resize_window(image, (height, width), (y, x, bottom, right))
    out_image = np.zeros((*augmentation.crop_size, 3), np.uint8)
    out_image[: rows.size, : columns.size] = jitter_colors(window, augmentation)
    return out_image, out_label


def _turn(array: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    # OpenCV copies a whole image faster than NumPy a backward view of the window.
    if augmentation.flip_horizontally:
        array = cv2.flip(array, 1)
    if augmentation.flip_vertically:
        array = cv2.flip(array, 0)
    if augmentation.turns:
        array = cv2.rotate(array, _ROTATIONS[augmentation.turns])
    return array


def nearest_indices(source: int, target: int) -> np.ndarray:
    """Which of `source` pixels each of `target` pixels shows in Pillow's NEAREST; int [target].

    Pillow adds the step up, pixel by pixel; multiplying would round differently at ties.
    """
    step = source / target
    steps = np.full(target, step)
    steps[0] = step * 0.5
    return np.add.accumulate(steps).astype(np.intp)


def resize_window(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], window: tuple[int, int, int, int]
) -> UInt8[np.ndarray, "wh ww 3"]:
    """The part (top, left, bottom, right) of `image` resized to `size`, (height, width)."""
    top, left, bottom, right = window
    y_box, rows = _source_range(image.shape[0], size[0], top, bottom)
    x_box, columns = _source_range(image.shape[1], size[1], left, right)
    part = Image.fromarray(np.ascontiguousarray(image[rows, columns]))
    # Columns, then rows, each in a call of its own: in one call Pillow picks the order by cost,
    # which differs between a window and the whole image, and rounds to 8 bits in between.
    for out_size, box in (
        ((right - left, part.height), (x_box[0], 0, x_box[1], part.height)),
        ((right - left, bottom - top), (0, y_box[0], right - left, y_box[1])),
    ):
        part = part.resize(out_size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(part)


def _source_range(source: int, target: int, start: int, stop: int):
    """Source coordinates of [start, stop) in a cut of the source, and that cut with its margin."""
    step = source / target
    # The filter reaches one pixel, or one step where that is more; one more for rounding.
    margin = int(max(step, 1.0)) + 2
    first = max(int(start * step) - margin, 0)
    last = min(int(stop * step) + margin, source)
    return (start * step - first, min(stop * step, source) - first), slice(first, last)


def jitter_colors(
    image: UInt8[np.ndarray, "h w 3"], augmentation: Augmentation
) -> UInt8[np.ndarray, "h w 3"]:
    """Brightness, contrast about the mean grey, saturation, hue, in this order, each clipped."""
    levels = np.arange(256, dtype=np.float64)
    if augmentation.brightness != 1:
        image = _look_up(image, levels * augmentation.brightness)
    if augmentation.contrast != 1:
        mean = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()
        image = _look_up(image, mean + (levels - mean) * augmentation.contrast)
    if augmentation.saturation != 1:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        factor = augmentation.saturation
        image = cv2.addWeighted(image, factor, grey, 1 - factor, 0)
    # 8-bit hue has 256 steps; less than half of one is none.
    shift = round(augmentation.hue * 256) % 256
    if shift:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(shift)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return image


def _look_up(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return cv2.LUT(np.ascontiguousarray(image), np.clip(np.rint(levels), 0, 255).astype(np.uint8))
