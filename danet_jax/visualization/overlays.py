"""Label maps in colour: alone, over their image, and as palette PNGs."""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.base.labels import IGNORE_LABEL

IGNORE_COLOR = (56, 56, 60)
# Pixels that are processed at once: as floats they take many times the memory of the image.
BLOCK_PIXELS = 1 << 16

Color = Sequence[int] | UInt8[np.ndarray, "3"]
Colors = UInt8[np.ndarray, "s 3"] | Sequence[Color]


def colorize(label: Integer[np.ndarray, "h w"], *, colors: Colors) -> UInt8[np.ndarray, "h w 3"]:
    """The colour of each pixel's class; ignored pixels (255) are dark grey.

    Raises UserError on an id that has no colour.
    """
    table = _color_table(colors, ignored=IGNORE_COLOR)
    return table[_checked(label, num_classes=len(colors))]


def overlay(
    image: UInt8[np.ndarray, "h w 3"],
    label: Integer[np.ndarray, "h w"],
    *,
    colors: Colors,
    opacity: float = 0.55,
) -> UInt8[np.ndarray, "h w 3"]:
    """`image` tinted with its classes' colours, a thin light line between classes.

    Raises UserError on an id that has no colour.
    """
    label = _checked(label, num_classes=len(colors))
    tints = opacity * _color_table(colors, ignored=IGNORE_COLOR)
    width = max(1, round(min(label.shape) / 480))
    tinted = np.empty_like(image)
    for rows in _row_blocks(label):
        blend = (1 - opacity) * image[rows].astype(np.float32) + tints[label[rows]]
        # The boundaries of the last rows depend on the rows below them.
        below = slice(rows.start, rows.stop + width)
        edge = class_boundaries(label[below], width=width)[: len(blend)]
        # The lines are not pure white, which would hide the image where segments are small.
        blend[edge] = 0.3 * blend[edge] + 0.7 * 255
        tinted[rows] = np.rint(blend)
    return tinted


def class_boundaries(
    label: Integer[np.ndarray, "h w"], *, width: int = 1
) -> Bool[np.ndarray, "h w"]:
    """True on the last `width` pixels before another class, to the right or below."""
    edge = np.zeros(label.shape, bool)
    for shift in range(1, width + 1):
        edge[:, :-shift] |= label[:, :-shift] != label[:, shift:]
        edge[:-shift] |= label[:-shift] != label[shift:]
    return edge


def class_shares(label: Integer[np.ndarray, "h w"], *, names: Sequence[str]) -> dict[str, float]:
    """Each class's share of the pixels that are not ignored, all classes, in order.

    They sum to 1, or are all 0 where every pixel is ignored. Raises UserError on an unknown id.
    """
    label = _checked(label, num_classes=len(names))
    counts = np.zeros(256, np.int64)
    for rows in _row_blocks(label):
        counts += np.bincount(label[rows].ravel(), minlength=256)
    counts = counts[: len(names)]
    total = max(int(counts.sum()), 1)
    return {name: int(count) / total for name, count in zip(names, counts, strict=True)}


def encode_label_png(label: Integer[np.ndarray, "h w"], *, colors: Colors) -> bytes:
    """An 8-bit palette PNG: pixel values are class ids, the palette their colours, 255 black.

    Raises UserError on an id that has no colour.
    """
    label = _checked(label, num_classes=len(colors))
    image = Image.frombytes("P", label.shape[::-1], label.tobytes())
    # The palette has all 256 entries, since Pillow packs a shorter one into fewer bits a pixel.
    image.putpalette(_color_table(colors).tobytes())
    return _png(image)


def encode_image_png(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """An RGB PNG of `image`."""
    return _png(Image.fromarray(image))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _color_table(colors: Colors, *, ignored: Color = (0, 0, 0)) -> UInt8[np.ndarray, "256 3"]:
    if len(colors) > IGNORE_LABEL:
        raise UserError(f"{len(colors)} classes: an 8-bit label holds at most {IGNORE_LABEL}")
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    table[IGNORE_LABEL] = ignored
    return table


def _checked(label: Integer[np.ndarray, "h w"], *, num_classes: int) -> UInt8[np.ndarray, "h w"]:
    unknown: set[int] = set()
    for rows in _row_blocks(label):
        ids = label[rows]
        bad = (ids != IGNORE_LABEL) & ((ids < 0) | (ids >= num_classes))
        unknown.update(np.unique(ids[bad]).tolist())
    if unknown:
        some = ", ".join(str(i) for i in sorted(unknown)[:8])
        raise UserError(
            f"the label holds ids outside 0 … {num_classes - 1} and 255 (ignored): {some}"
        )
    return label.astype(np.uint8, copy=False)


def _row_blocks(label: Integer[np.ndarray, "h w"]) -> Iterator[slice]:
    height, width = label.shape
    rows = max(1, BLOCK_PIXELS // max(1, width))
    return (slice(first, min(first + rows, height)) for first in range(0, height, rows))
