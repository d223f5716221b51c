"""The usual mistakes in labels: how each shows in one file, and what to do about it."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from danet_jax.input_pipeline.images import file_formats
from danet_jax.input_pipeline.labels import IGNORE_LABEL, standard_color

ANTI_ALIASED = "anti-aliased"
COLORED = "coloured"
GREY_AS_RGB = "grey as RGB"
LOSSY = "lossy"
LOSSY_WEBP = "lossy WebP"
PALETTE_LOST = "palette lost"
SWAPPED = "swapped"
UNKNOWN_COLORS = "unknown colours"

# Each mistake shows in a single label file; the text says what is wrong with several of them.
SUSPICIONS = {
    ANTI_ALIASED: "seem to have been resized with interpolation: along edges are values that lie "
    "between those of both sides and mean nothing. Start again from the originals, and resize "
    "labels with NEAREST only",
    COLORED: "are painted in colours, as palette images are that were converted to RGB. Give files "
    "of ids, a palette image's indices; or name the colour of each class in classes.txt of data "
    "set `folder`",
    GREY_AS_RGB: "hold ids, but in three equal channels. Save one channel, "
    'Image.open(FILE).convert("L")',
    LOSSY: "are compressed as JPEG, which changes ids along all edges. Start again from the "
    "originals, and save labels as PNG",
    LOSSY_WEBP: "are compressed as lossy WebP, which changes ids along all edges. Start again from "
    "the originals, and save labels as PNG",
    PALETTE_LOST: "hold the brightness of the classes' colours in place of ids: a palette image "
    'was converted to grey. Start from the palette files, and read their indices, mode "P"',
    SWAPPED: "have a photograph's many values, and the images look like labels: images and labels "
    "seem to be swapped. Exchange the two folders",
    UNKNOWN_COLORS: "hold colours that no class has. Name the colour of each class, three "
    "numbers after its name in classes.txt; or in classes.json in its place, where colours that "
    'mean nothing can stand, too: "ignore": [[0, 0, 0]]',
}

_SAMPLES = 64
# These are numbers of distinct values among 64 x 64 pixels: drawings have few, photographs
# hundreds.
_FEW, _MANY = 40, 120
# This share of a label's horizontal changes leads to a value between those of both neighbours.
_INTERPOLATED_SHARE = 0.25
_INTERPOLATED_PIXELS = 20
# If a palette has more shades, as one of 171 classes has, many ids are among them by chance.
_FEW_SHADES = 64
# Labels are taken for numbers of objects only if there are so many of them, with so many different
# highest numbers, and so few with gaps.
_COUNTED_LABELS, _COUNTED_ENDS, _WITH_GAPS = 10, 5, 0.05
# All ids of a label being shades by chance may be at most so probable; the second bound is for
# labels whose ids are all known.
_CHANCE, _CHANCE_OF_KNOWN = 0.1, 1e-3


def suspect_label(
    raw: np.ndarray,
    unknown: np.ndarray,
    *,
    known: np.ndarray,
    colors: Sequence[Sequence[int]],
) -> list[str]:
    """Returns suspicions about a map of raw ids, of which `unknown` are not known ones."""
    suspicions = []
    if unknown.size and raw.any():
        standard = [standard_color(index) for index in (*range(len(colors) + 1), IGNORE_LABEL)]
        ids = np.unique(raw[raw != 0])
        for palette in (colors, standard):
            shades = _shades(palette)
            of_palette = np.isin(raw[raw != 0], shades).mean() > 0.95
            telling = shades.size <= _FEW_SHADES or (
                np.isin(ids, shades).all() and (shades.size / 256) ** ids.size < _CHANCE
            )
            if telling and of_palette and np.isin(unknown, shades).any():
                suspicions = [PALETTE_LOST]
    elif raw.any() and colors:
        shades = _shades(colors)
        ids = np.unique(raw[raw != 0])
        share = np.isin(known, shades).mean()
        if np.isin(ids, shades).all() and share**ids.size < _CHANCE_OF_KNOWN:
            suspicions = [PALETTE_LOST]
    if not suspicions and _is_interpolated(raw):
        suspicions.append(ANTI_ALIASED)
    return suspicions


def _shades(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """Returns the greys that Pillow converts colours to."""
    return np.unique((np.asarray(colors) @ (299, 587, 114) + 500) // 1000)


def suspect_compression(data: bytes) -> list[str]:
    """Returns suspicions about the format of a label file, whatever its name."""
    lossy = file_formats.name_lossy(data)
    if not lossy:
        return []
    return [LOSSY_WEBP] if "WebP" in lossy else [LOSSY]


def _is_interpolated(raw: np.ndarray) -> bool:
    if raw.shape[1] < 5:
        # An edge is seen by two pixels on each side of it.
        return False
    before, left, middle, right, after = (
        raw[:, shift : raw.shape[1] - 4 + shift] for shift in range(5)
    )
    between = ((left < middle) & (middle < right)) | ((left > middle) & (middle > right))
    # Only edges of areas count. Objects that are one pixel wide and side by side would count
    # otherwise.
    between &= (before == left) | (right == after)
    count = np.count_nonzero(between)
    changes = np.count_nonzero(left != middle)
    return bool(count > max(_INTERPOLATED_PIXELS, _INTERPOLATED_SHARE * changes))


def are_numbered_objects(ends: Mapping[int, int], others: int) -> bool:
    """Returns whether labels of known ids number the objects of each image, 1, 2, 3, …

    Classes that occur in nearly every image look like that if they have the lowest ids, and the
    highest ids of labels are few. CamVid's eleven classes, numbered by their frequency, end at five
    different ids and have gaps in 30 % of the labels.

    Args:
      ends: counts labels with the numbers 1 to N, by N.
      others: the number of labels whose numbers have gaps.
    """
    labels = sum(ends.values())
    return (
        labels >= _COUNTED_LABELS
        and others <= _WITH_GAPS * (labels + others)
        and len(ends) >= _COUNTED_ENDS
        and max(ends.values()) <= labels / 2
    )


def suspect_mode(label: Image.Image) -> list[str]:
    """Returns suspicions about a label file that is no map of ids."""
    if label.mode in ("RGB", "RGBA"):
        pixels = np.asarray(label.convert("RGB"))
        if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
            return [GREY_AS_RGB]
        if not is_photograph(label):
            return [COLORED]
    return []


def suspect_swap(label: Image.Image, image: Image.Image) -> list[str]:
    """Returns [SWAPPED] if the label is a photograph and the image is not."""
    return [SWAPPED] if is_photograph(label) and _count_values(image) <= _FEW else []


def suspect_swapped_ids(raw: np.ndarray, image: Image.Image) -> list[str]:
    """Does the same for a map of ids, from whatever file."""
    if raw.size < _MANY or np.ptp(raw) < _MANY:
        return []
    return suspect_swap(Image.fromarray(raw.astype(np.uint8)), image)


def is_photograph(image: Image.Image) -> bool:
    """Returns whether an image has more values than drawings have."""
    return image.mode in ("L", "RGB") and _count_values(image) >= _MANY


def _count_values(image: Image.Image) -> int:
    size = (min(_SAMPLES, image.width), min(_SAMPLES, image.height))
    pixels = np.asarray(image.resize(size, Image.Resampling.NEAREST))
    return len(np.unique(pixels.reshape(pixels.shape[0] * pixels.shape[1], -1), axis=0))
