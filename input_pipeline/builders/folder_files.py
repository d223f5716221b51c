"""A user's own images and labels: photographs of phones, labels in ids or in colours."""

from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from danet_jax.base.errors import DataError
from danet_jax.base.wording import counted
from danet_jax.input_pipeline.builders import folder_palettes
from danet_jax.input_pipeline.builders.folder_classes import HIGHEST_ID, Classes, Color
from danet_jax.input_pipeline.checking import mistakes
from danet_jax.input_pipeline.checking.pairs import LabelError, Pair, Picture
from danet_jax.input_pipeline.checking.reading import (
    MAX_LISTED,
    open_header,
    open_image,
    read_bytes,
    refuse_ambiguous_ids,
)
from danet_jax.input_pipeline.images import codec, conversion, file_formats, opening

_MAX_COLORS = 3
# If a label has more unknown colours than this, they come from blending, not from a forgotten
# class.
_MANY_COLORS = 16


# --- images --------------------------------------------------------------------------------------


def read_image(pair: Pair) -> Picture:
    """Returns the image of a pair, 8-bit RGB or grey, in the orientation of its label.

    A label is always turned upright by its own tag, as viewers do.

    It keeps the bytes of the file if `codec.decode_image` gives the same pixels as prediction sees.
    If not, it makes a PNG of those pixels: for 16-bit, CMYK, palette and transparent images, which
    `conversion.read_image` converts, and for photographs that their EXIF orientation turns.

    Raises:
      DataError: it does not decode, holds several pages, is of a mode without a known range, or
        nothing tells whether its label was drawn on the upright photograph, or whether the tags of
        both are right.
    """
    data = read_bytes(pair.image)
    opened = open_header(data)
    file = opened.file
    if file.format != "MPO":
        _refuse_pages(opened.pages)
    orientation = opening.orientation(file)
    label = _open_label(pair)
    is_tagged = label is not None and opening.tagged_orientation(label) != 1
    if label is not None and is_tagged:
        _refuse_other_orientation(file, label)
    upright = orientation == 1 or is_tagged or _is_label_upright(label, file, orientation)
    notes: tuple[str, ...] = ()
    if orientation != 1 and upright:
        notes = ("turned upright by its EXIF orientation, as its label is",)
    elif orientation != 1:
        notes = ("not turned by its EXIF orientation, as its label is not; predict turns it",)
    elif label is not None and not is_tagged and _is_turned_by_pillow(file):
        notes = (
            "turned upright by the orientation in the TIFF; check in the samples of the "
            "report whether its label is, too",
        )
    is_plain = file.format in ("JPEG", "MPO") and file.mode in ("RGB", "L")
    if is_plain and (orientation == 1 or not upright):
        return Picture(data, open_image(data), notes)
    pixels, conversions = conversion.convert_image(data, upright=upright)
    if _decodes_to(data, pixels):
        return Picture(data, Image.fromarray(pixels), notes + conversions)
    encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
    return Picture(encoded, Image.fromarray(pixels), notes + conversions)


def _refuse_pages(pages: int) -> None:
    if pages > 1:
        raise DataError(f"{pages} pages; save only the page that is meant")


def _is_turned_by_pillow(file: Image.Image) -> bool:
    """Returns whether Pillow turns or mirrors a TIFF without changing its size."""
    turn = getattr(file, "tag_v2", {}).get(ExifTags.Base.Orientation, 1)
    return file.format == "TIFF" and turn in (2, 3, 4)


def _open_label(pair: Pair) -> Image.Image | None:
    """Returns the label of a pair, not decoded; None if there is none."""
    if pair.label is None:
        return None
    try:
        return open_header(read_bytes(pair.label)).file
    except DataError:
        return None  # `read_label` reports what is wrong with it.


def _refuse_other_orientation(file: Image.Image, label: Image.Image) -> None:
    """Raises a DataError if a label is turned by its tag, and the tag of its image is another.

    If the image has none, and only the turned label has its size, that is right.
    """
    orientation, of_label = map(opening.tagged_orientation, (file, label))
    stored, upright = opening.sizes(label)
    if of_label == orientation or (orientation == 1 and stored != file.size == upright):
        return
    raise DataError(
        f"viewers turn it by its orientation tag, {orientation} (1 is upright), and its label by "
        f"another, {of_label}. If the label lies on the image as viewers show both, save both "
        "upright, ImageOps.exif_transpose(Image.open(FILE)).save(FILE); if it does as both are "
        "stored, run `exiftool -Orientation= FILE` on both"
    )


def _is_label_upright(label: Image.Image | None, file: Image.Image, orientation: int) -> bool:
    """Returns whether an untagged label has the size of the upright photograph."""
    if label is None:
        return True  # Prediction turns it, too.
    stored, upright = opening.sizes(file)
    if label.size == stored == upright:
        raise DataError(
            f"its EXIF orientation ({orientation}) turns or mirrors it, and its label has the same "
            "size either way. If the label was drawn on the upright photograph, run `mogrify "
            "-auto-orient FILE`; if on the stored one, `exiftool -Orientation= FILE`"
        )
    return label.size != stored


def _decodes_to(data: bytes, pixels: np.ndarray) -> bool:
    try:
        return np.array_equal(codec.decode_image(data), pixels)
    except DataError:
        return False


# --- labels --------------------------------------------------------------------------------------


def read_label(file: Path, classes: Classes) -> np.ndarray:
    """Returns the raw ids of a label file, [h, w], turned upright by its EXIF orientation.

    The values of images of one channel of 1, 8 or 16 bits are ids, and so are the indices of
    palette images. Colours of RGB images become the first raw id of their class.

    Raises:
      LabelError: it is no image, holds colours that no class has, ids that lossy compression has
        changed or that programs read differently, or a palette whose colours say otherwise than
        its indices.
    """
    data = read_bytes(file)
    opened = open_header(data)
    is_deep = opening.is_deep_color(opened)
    label = conversion.turned(open_image(data), opening.orientation(opened.file))
    refuse_ambiguous_ids(data)
    lossy = mistakes.suspect_compression(data)
    _refuse_pages(opened.pages)
    if label.mode in ("RGB", "RGBA"):
        if is_deep:
            raise LabelError("16-bit colours; save it with 8 bits for each of red, green, blue")
        return _ids_of_colors(label, classes, lossy=lossy)
    if label.mode == "P":
        return folder_palettes.ids_of(label, classes)
    if label.mode == "LA":
        if np.asarray(label)[..., 1].min() < 255:
            raise LabelError('transparent; save it without alpha, Image.open(FILE).convert("L")')
        label = label.convert("L")
    if label.mode == "F":
        return _ids_of_floats(np.asarray(label))
    if label.mode not in ("1", "L", "I") and not label.mode.startswith("I;16"):
        raise LabelError(
            f"mode {label.mode}; labels are one channel of ids with 8 or 16 bits, or the classes' "
            "colours in RGB"
        )
    ids = np.asarray(label)
    if ids.min() < 0 or ids.max() > HIGHEST_ID:
        raise LabelError(f"ids {ids.min()} to {ids.max()}; they are 0 to {HIGHEST_ID}")
    ids = ids.astype(np.uint16 if ids.max() > 255 else np.uint8)
    unknown = np.setdiff1d(ids, list(classes.id_map))
    if lossy and unknown.size:
        shown = ", ".join(str(id) for id in unknown[:MAX_LISTED])
        kind = file_formats.name_lossy(data)
        raise LabelError(f"ids {shown}, which no class has, in {kind}", suspicions=lossy)
    return ids


def _ids_of_floats(values: np.ndarray) -> np.ndarray:
    """Returns ids that were saved as floating-point numbers; a LabelError for other numbers."""
    are_ids = (values >= 0) & (values <= HIGHEST_ID) & (values == np.floor(values))
    if not are_ids.all():
        value = float(values[~are_ids][0])
        raise LabelError(
            f"floating-point numbers such as {value:g}, which is no id. Where that stands for no "
            "data give it an id, 255, and save whole numbers: gdal_translate -ot Byte"
        )
    return values.astype(np.uint16)


def _ids_of_colors(label: Image.Image, classes: Classes, *, lossy: list[str]) -> np.ndarray:
    if label.mode == "RGBA" and np.asarray(label)[..., 3].min() < 255:
        raise LabelError("transparent; save it as RGB")
    pixels = np.asarray(label.convert("RGB")).astype(np.int32)
    codes = pixels @ np.array([1 << 16, 1 << 8, 1], np.int32)
    known = sorted((_code(color), id) for color, id in classes.color_ids.items())
    if not known:
        raise LabelError(
            f"mode {label.mode}, but no class has a colour in the list of classes",
            suspicions=lossy or mistakes.suspect_mode(label),
        )
    table, ids = (np.array(values) for values in zip(*known, strict=True))
    indices = np.minimum(np.searchsorted(table, codes), len(table) - 1)
    unknown = codes[table[indices] != codes]
    if unknown.size:
        raise _unknown_colors(label, unknown, lossy=lossy)
    return ids[indices].astype(np.int32)


def _code(color: Color) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def _unknown_colors(label: Image.Image, codes: np.ndarray, *, lossy: list[str]) -> LabelError:
    colors, pixels = np.unique(codes, return_counts=True)
    most = np.argsort(-pixels, kind="stable")[:_MAX_COLORS]
    shown = ", ".join(
        f"{tuple(int(colors[index]).to_bytes(3))} ({counted(int(pixels[index]), 'pixel')})"
        for index in most
    )
    more = f" and {len(colors) - _MAX_COLORS} more" if len(colors) > _MAX_COLORS else ""
    if lossy:
        kinds = lossy
    elif mistakes.GREY_AS_RGB in (suspicions := mistakes.suspect_mode(label)):
        kinds = suspicions
    elif len(colors) > _MANY_COLORS and codes.size < label.width * label.height / 2:
        kinds = [mistakes.ANTI_ALIASED]
    else:
        kinds = [mistakes.UNKNOWN_COLORS]
    return LabelError(f"colours {shown}{more}, which no class has", suspicions=kinds)
