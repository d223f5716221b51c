"""Reads the image and label files of a source; a DataError says what is wrong with one."""

import errno
import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from danet_jax.base.errors import OF_ITS_FOLDERS, DataError, unreadable_file
from danet_jax.input_pipeline.checking import mistakes
from danet_jax.input_pipeline.checking.pairs import LabelError, Pair, Picture
from danet_jax.input_pipeline.images import codec, opening
from danet_jax.input_pipeline.images.files import read_file

MAX_LISTED = 5
# Cameras write JPEGs with a second, small image behind the first, which Pillow calls MPO.
JPEGS = ("JPEG", "MPO")
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def read_image(pair: Pair) -> Picture:
    """Returns the image file of a pair as it is.

    Raises:
      DataError: it is missing, empty, does not decode, or has 16-bit colours.
    """
    data = read_bytes(pair.image)
    if opening.is_deep_color(open_header(data)):
        raise DataError("16-bit colour; images are 8-bit RGB")
    image = open_image(data)
    if image.format not in (*JPEGS, "PNG"):
        codec.decode_image(data)  # The decoder of training reads fewer of these formats.
    return Picture(data, image)


def read_label(file: Path) -> UInt8[np.ndarray, "h w"]:
    """Returns the ids of a PNG of one 8-bit channel, or the indices of a palette.

    Raises:
      LabelError: it does not decode, is of another kind, or is to be turned.
    """
    data = read_bytes(file)
    orientation = opening.tagged_orientation(open_header(data).file)
    label = open_image(data)
    refuse_ambiguous_ids(data)
    if orientation != 1:
        raise LabelError(
            f"an orientation tag, {orientation}, by which some programs turn it and others do not; "
            "save it as it lies on its image, and without the tag"
        )
    if label.mode not in ("L", "P"):
        raise LabelError(
            f"mode {label.mode}; labels are one 8-bit channel of ids",
            suspicions=mistakes.suspect_mode(label),
        )
    return np.asarray(label)


def refuse_ambiguous_ids(data: bytes) -> None:
    """Raises a LabelError if programs read different ids from the same file.

    Pillow multiplies grey of 2 or 4 bits (1 becomes 17). In a TIFF of 1 or 8 bits where 0 is white,
    Pillow and ImageMagick invert the numbers, GDAL and tifffile return them as stored.
    """
    try:
        opened = opening.open_image(data)
    except DataError:  # The caller reads the file next, and reports what is wrong.
        return
    file = opened.file
    if file.mode == "L" and (";2" in opened.packing or ";4" in opened.packing):
        raise LabelError(
            "grey of 2 or 4 bits, whose ids programs scale differently; save it with 8 bits"
        )
    if file.format == "TIFF" and file.mode in ("1", "L") and opening.is_white_zero(file):
        raise LabelError(
            "a TIFF in which 0 is white or not said to be black (PhotometricInterpretation), whose "
            "ids some programs invert. Save it as PNG: where it looks right, with "
            'Image.open(FILE).save("out.png"); where its stored numbers are the ids, with '
            'Image.fromarray(tifffile.imread(FILE)).save("out.png")'
        )


def read_bytes(file: Path) -> bytes:
    """Returns the content of a file; a DataError if there is none."""
    try:
        os.stat(file)
    except ValueError:  # A list of files can contain names that no file can have.
        raise DataError("missing") from None
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            raise DataError("missing") from None
        raise unreadable_file(error, needed=OF_ITS_FOLDERS) from error
    return read_file(file)


def open_image(data: bytes) -> Image.Image:
    """Decodes an image; a DataError if it is torn."""
    try:
        return opening.load_image(data).file
    except DataError as error:
        raise DataError(f"does not decode ({error})") from None


def open_header(data: bytes) -> opening.Opened:
    """Reads the header of an encoded image; a DataError if that is torn."""
    try:
        return opening.open_image(data)
    except DataError as error:
        raise DataError(f"does not decode ({error})") from None
