"""Reads image files of any kind as RGB, and notes what was converted."""

import os

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images import codec
from danet_jax.input_pipeline.images.files import read_file
from danet_jax.input_pipeline.images.opening import (
    BROKEN,
    Opened,
    is_deep_color,
    load_image,
    orientation,
)

# Pixels of an alpha channel are nearly all 0 or 255, except along soft edges. A band that is only
# called alpha (near infrared, height) has any values.
_CLEAR_SHARE = 0.5
# The brightest 16-bit values are left out, so that a few hot pixels do not hide that a camera has
# fewer bits.
_NEARLY_ALL = 0.999
# Pillow multiplies grey of 2 and 4 bits by these.
_SCALES = {"L;2": 85, "L;4": 17}


def read_image(path: str | os.PathLike) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Reads an image file as RGB, turned upright by its EXIF orientation.

    Returns:
      uint8 [h, w, 3], and a sentence for each conversion that loses or decides something.

    Raises:
      DataError: the file is missing, empty, torn, no image, above LARGEST_IMAGE or LONGEST_SIDE, of
        a mode without a known range, or does not fit into memory.
    """
    try:
        return convert_image(read_file(path))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def convert_image(
    data: bytes, *, upright: bool = True
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Does the same for the content of a file; without `upright` it is not turned."""
    try:
        opened = load_image(data)
        _refuse_signed(opened.file)
        is_negative = _is_negative(opened.file)
        opaque = _find_opaque(opened, data)
        turn = orientation(opened.file) if upright else 1
        image = turned(opened.file, turn)
        if is_negative:
            values = np.asarray(image)
            image = Image.fromarray(~values.astype(values.dtype.newbyteorder("=")))
        pixels, notes = _to_rgb(image, opened)
        if opaque is not None:
            pixels, more_notes = _over_black(pixels, turned(opaque, turn))
            notes += more_notes
    except MemoryError:
        raise DataError("there is too little memory to decode it") from None
    except DataError:
        raise
    except (*BROKEN, ImageCms.PyCMSError) as error:
        raise DataError(f"not a readable image, or torn: {error}") from None
    frames = (f"only the first of {opened.pages} frames is used",) if opened.pages > 1 else ()
    return pixels, frames + opened.notes + notes


def _refuse_signed(file: Image.Image) -> None:
    """Raises a DataError for negative 8-bit numbers, which Pillow reads as 128 to 255."""
    formats = getattr(file, "tag_v2", {}).get(ExifTags.Base.SampleFormat, 1)
    if file.mode == "L" and 2 in np.atleast_1d(formats) and np.asarray(file).max() > 127:
        raise DataError(
            "pixels are signed integers of unknown range; save it as 8-bit RGB, for example with "
            "`gdal_translate -ot Byte -scale`"
        )


def _is_negative(file: Image.Image) -> bool:
    """Returns whether the grey TIFF that Pillow read has still to be inverted.

    In 16 bits, as in scanned X-rays, Pillow ignores that 0 stands for white. If a file does not say
    what 0 is, Pillow inverts 8 bits, and other programs do not.
    """
    tags = getattr(file, "tag_v2", None)
    if tags is None:
        return False
    photometric = tags.get(ExifTags.Base.PhotometricInterpretation)
    if file.mode.startswith("I;16"):
        return photometric == 0
    return file.mode == "L" and photometric is None


# These operations turn an image upright, by its EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turns a decoded image upright by an EXIF orientation, 1 to 8."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _find_opaque(opened: Opened, data: bytes) -> Image.Image | None:
    """Returns the alpha channel of a PNG in which one colour is transparent, else None.

    The colour is given in the bits of the file, and Pillow compares it with pixels that it has
    scaled to 8 bits.
    """
    file = opened.file
    color = file.info.get("transparency")
    if file.format != "PNG" or file.mode == "P" or color is None:
        return None
    # From here on, the image has no transparency of Pillow's.
    del file.info["transparency"]
    if file.mode == "RGB":
        deep = is_deep_color(opened)
        pixels = codec.decode_deep_image(data) if deep else np.asarray(file)
        clear = (pixels == np.array(color)).all(axis=-1)
    else:
        scale = next((scale for bits, scale in _SCALES.items() if bits in opened.packing), 1)
        clear = np.asarray(file) == (color > 0 if file.mode == "1" else scale * color)
    return Image.fromarray(np.where(clear, 0, 255).astype(np.uint8))


def _to_rgb(
    image: Image.Image, opened: Opened
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    mode, packing = image.mode, opened.packing
    notes: tuple[str, ...] = ()
    if mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint16)
        if "I;12" in packing:
            grey, notes = values >> 4, ("12-bit grey: the high 8 bits are used",)
        else:
            # The high byte is used for every image: stretching to its own range would make the same
            # scene look different from file to file.
            grey = values >> 8
            # 65535 often marks pixels without data.
            notes = (_note_on_depth("grey", grey[values < 65535]),)
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2), notes
    if mode in ("I", "F"):
        kind = "signed or 32-bit integers" if mode == "I" else "floating-point numbers"
        raise DataError(
            f"pixels are {kind} of unknown range; save it as 8-bit RGB, for example with "
            "`gdal_translate -ot Byte -scale`"
        )
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        pixels, notes = _over_black(np.asarray(rgba.convert("RGB")), rgba.getchannel("A"))
        image = Image.fromarray(pixels)
    elif mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransformFromOpenProfiles(lab, srgb, "LAB", "RGB")
        image = transform.apply(image)
    if mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
        notes += (f"converted from {mode} to RGB",)
    pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    if is_deep_color(opened):
        deep = _note_on_depth("colour", pixels) if mode != "CMYK" else _DEEP.format("colour")
        notes = (deep, *notes)
    return pixels, notes


_DEEP = "16-bit {}: the high byte is used"


def _note_on_depth(kind: str, high: np.ndarray) -> str:
    """Returns a note on 16-bit values, by their high bytes [any]."""
    counts = np.bincount(high.ravel(), minlength=256)
    level = int(np.searchsorted(counts.cumsum(), _NEARLY_ALL * counts.sum()))
    # Cameras have an even number of bits.
    bits = -(-(8 + level.bit_length()) // 2) * 2
    if bits > 14 or not high.size:
        return _DEEP.format(kind)
    highest = 2**bits - 1
    return (
        f"{_DEEP.format(kind)}, and the image comes out nearly black, since its values end at "
        f"{highest} ({bits} bits); rescale such images first, for example with `gdal_translate -ot "
        f"Byte -scale 0 {highest} 0 255`"
    )


def _over_black(
    pixels: UInt8[np.ndarray, "h w 3"], opaque: Image.Image
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """Draws an image over black by its alpha channel, not where the band is no such channel."""
    counts = np.bincount(np.asarray(opaque).ravel(), minlength=256)
    if counts[255] == counts.sum():
        return pixels, ()
    if not counts[255] or counts[0] + counts[255] < _CLEAR_SHARE * counts.sum():
        return pixels, (
            "the fourth band is called transparency and is nowhere opaque, or different all over "
            "(near infrared?): it is left out, the colours are as stored",
        )
    image = Image.fromarray(pixels)
    image.putalpha(opaque)
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    drawn = Image.alpha_composite(black, image).convert("RGB")
    return np.array(drawn), ("transparent parts are drawn over black",)
