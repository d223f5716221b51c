"""An image and its label, painted together at several samples per pixel.

Lengths are in units of 1/96 of the image's height, x to the right, y downwards. Colours are RGB.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

SUPERSAMPLING = 3  # odd, so that a pixel's centre is one sample, which gives the label
SUBPIXEL_BITS = 4
UNITS = 96.0

Color = Sequence[float | int]  # OpenCV saturates what lies outside 0..255
Point = tuple[float | int, float | int]
Points = Sequence[Point]
Box = tuple[float | int, float | int, float | int, float | int]  # left, top, right, bottom


@dataclasses.dataclass
class Canvas:
    """An image and its label, painted together; `unit` is samples per unit of length."""

    image: UInt8[np.ndarray, "h w 3"]
    label: UInt8[np.ndarray, "h w"]
    unit: float

    @classmethod
    def blank(cls, height: int, width: int) -> "Canvas":
        shape = height * SUPERSAMPLING, width * SUPERSAMPLING
        image, label = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
        return cls(image, label, shape[0] / UNITS)

    def downsample(self) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        """Averages the image over each pixel, and takes the label at its centre."""
        rows, columns = (n // SUPERSAMPLING for n in self.label.shape)
        image = cv2.resize(self.image, (columns, rows), interpolation=cv2.INTER_AREA)
        middle = SUPERSAMPLING // 2
        return image, self.label[middle::SUPERSAMPLING, middle::SUPERSAMPLING]

    def _fixed_point(self, point: Point) -> tuple[int, int]:
        scale = self.unit * (1 << SUBPIXEL_BITS)
        half = (1 << SUBPIXEL_BITS) // 2  # OpenCV counts from the centre of the first sample
        return int(point[0] * scale) - half, int(point[1] * scale) - half

    def polygon(self, points: Points, color: Color, label: int | None = None) -> None:
        corners = [np.array([self._fixed_point(point) for point in points], np.int32)]
        cv2.fillPoly(self.image, corners, color, cv2.LINE_8, SUBPIXEL_BITS)
        if label is not None:
            cv2.fillPoly(self.label, corners, label, cv2.LINE_8, SUBPIXEL_BITS)

    def rectangle(self, box: Box, color: Color, label: int | None = None) -> None:
        x0, y0, x1, y1 = box
        self.polygon(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), color, label)

    def ellipse(self, center: Point, radii: Point, color: Color, label: int | None = None) -> None:
        middle = self._fixed_point(center)
        scale = self.unit * (1 << SUBPIXEL_BITS)
        axes = round(radii[0] * scale), round(radii[1] * scale)
        rest = (-1, cv2.LINE_8, SUBPIXEL_BITS)
        cv2.ellipse(self.image, middle, axes, 0, 0, 360, color, *rest)
        if label is not None:
            cv2.ellipse(self.label, middle, axes, 0, 0, 360, label, *rest)

    def darken(self, center: Point, radii: Point, gain: float) -> None:
        """Draws a soft shadow: scales the image inside an ellipse, and leaves the label."""
        x, y = np.multiply(center, self.unit)
        rx, ry = np.multiply(radii, self.unit)
        top, left = max(int(y - ry), 0), max(int(x - rx), 0)
        bottom, right = max(int(y + ry) + 1, 0), max(int(x + rx) + 1, 0)
        patch = self.image[top:bottom, left:right]
        rows = (np.arange(patch.shape[0])[:, None] + top - y) / ry
        columns = (np.arange(patch.shape[1]) + left - x) / rx
        inside = rows**2 + columns**2 < 1
        patch[inside] = (patch[inside] * gain).astype(np.uint8)
