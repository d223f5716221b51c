"""Colours of a training example: relative changes, and mmsegmentation's distortion."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

# These are the defaults of PhotoMetricDistortion in mmsegmentation 1.2.2.
BRIGHTNESS_DELTA = 32
CONTRAST_RANGE = SATURATION_RANGE = (0.5, 1.5)
HUE_DELTA = 18

_LEVELS = np.arange(256, dtype=np.float32)
_IDENTITY = np.arange(256, dtype=np.uint8)


def jitter_colors(
    image: UInt8[np.ndarray, "h w 3"],
    *,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    hue: float = 0.0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Changes brightness, contrast about the mean grey, saturation, hue, in this order.

    Values are clipped after each. The factors multiply; `hue` is added, and 1 is the whole circle.
    """
    levels = np.arange(256, dtype=np.float64)
    if brightness != 1:
        image = _look_up(image, _rounded(levels * brightness))
    if contrast != 1:
        mean = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean()
        image = _look_up(image, _rounded(mean + (levels - mean) * contrast))
    if saturation != 1:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
    # 8-bit hue has 256 steps, so a change of less than half a step is none.
    shift = round(hue * 256) % 256
    if shift:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        hsv[..., 0] += np.uint8(shift)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    return image


@dataclasses.dataclass(frozen=True)
class Distortion:
    """A draw of mmsegmentation's PhotoMetricDistortion; the defaults change nothing.

    `brightness` is added, in grey levels; `contrast` (about 0) and `saturation` multiply; `hue` is
    added, and the circle has 180 steps. With `contrast_last` contrast comes after saturation and
    hue, else before.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: int = 0
    contrast_last: bool = True


NO_DISTORTION = Distortion()


def draw_distortion(rng: np.random.Generator) -> Distortion:
    """Draws each of the four changes with probability 1/2, and the position of contrast.

    All values are always drawn, so that later draws do not depend on which are used.
    """
    brightness, contrast, saturation, hue, last = (bool(coin) for coin in rng.random(5) < 0.5)
    # HUE_DELTA itself is never drawn, as in the original.
    values = (
        rng.uniform(-BRIGHTNESS_DELTA, BRIGHTNESS_DELTA),
        rng.uniform(*CONTRAST_RANGE),
        rng.uniform(*SATURATION_RANGE),
        int(rng.integers(-HUE_DELTA, HUE_DELTA)),
    )
    return Distortion(
        brightness=values[0] if brightness else 0.0,
        contrast=values[1] if contrast else 1.0,
        saturation=values[2] if saturation else 1.0,
        hue=values[3] if hue else 0,
        contrast_last=last,
    )


def distort_colors(
    image: UInt8[np.ndarray, "h w 3"], distortion: Distortion
) -> UInt8[np.ndarray, "h w 3"]:
    """Applies a distortion with the rounding of the original: values are truncated."""
    if distortion.brightness:
        image = _look_up(image, _cut(_LEVELS + distortion.brightness))
    if not distortion.contrast_last:
        image = _scale_contrast(image, distortion.contrast)
    if distortion.saturation != 1:
        scaled = _cut(_LEVELS * distortion.saturation)
        image = _look_up_hsv(image, (_IDENTITY, scaled, _IDENTITY))
    if distortion.hue:
        shifted = ((np.arange(256) + distortion.hue) % 180).astype(np.uint8)
        image = _look_up_hsv(image, (shifted, _IDENTITY, _IDENTITY))
    if distortion.contrast_last:
        image = _scale_contrast(image, distortion.contrast)
    return image


def _scale_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    return image if factor == 1 else _look_up(image, _cut(_LEVELS * factor))


def _look_up_hsv(image: np.ndarray, tables: Sequence[np.ndarray]) -> np.ndarray:
    # Saturation and hue each convert to HSV and back, as in the original, which rounds both times.
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    return cv2.cvtColor(_look_up(hsv, np.stack(tables, axis=-1)[:, None]), cv2.COLOR_HSV2RGB)


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(np.ascontiguousarray(image), table)


def _rounded(levels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _cut(levels: np.ndarray) -> np.ndarray:
    return np.clip(levels, 0, 255).astype(np.uint8)
