"""Image files and encoded images to arrays."""

import io
import os
import struct
import warnings

import cv2
import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageFile, ImageOps

from input_pipeline.errors import DataError
from input_pipeline.image_files import read_file

# In pixels. To read an image takes up to 22 bytes of each, to predict it in windows less: 4 GB.
# Just below what Pillow opens at all, so that a small file which claims to be enormous is refused
# by its header.
LARGEST_IMAGE = 178_000_000

# What Pillow raises on broken files, apart from OSError and its subclasses; struct.error and the
# rest come out of its format plugins, which do not catch everything.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
)


def read_image(path: str | os.PathLike) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """An image file as RGB, upright by its EXIF orientation, with notes on what was converted.

    Returns:
      uint8 [h, w, 3], and a sentence for each conversion that loses or decides something.

    Raises:
      DataError: the file is missing, empty, torn, no image, above LARGEST_IMAGE, or of a mode
        without a known range.
    """
    with warnings.catch_warnings():
        # Aerial images pass Pillow's first size mark; its second one still raises. Its remarks on
        # odd metadata do not concern the pixels.
        warnings.simplefilter("ignore")
        try:
            return convert_image(read_file(path))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def convert_image(
    data: bytes, *, upright: bool = True
) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    """As `read_image`, of the content of a file; as it is stored where not `upright`."""
    if not data:
        raise DataError("empty file")
    try:
        file = Image.open(io.BytesIO(data))
        if file.width * file.height > LARGEST_IMAGE:
            raise Image.DecompressionBombError
        notes = _notes_on_file(file)
        image = ImageOps.exif_transpose(file) if upright else file
        image.load()
    except Image.DecompressionBombError:
        raise DataError(
            f"it has more than {LARGEST_IMAGE // 10**6} million pixels, the most that an image may "
            "have here: save it smaller, or cut into parts"
        ) from None
    except _BROKEN as error:
        # Pillow names its own objects where it knows no format.
        reason = "" if "cannot identify" in str(error) else f": {error}"
        raise DataError(f"not a readable image, or torn{reason}") from None
    pixels, more = _to_rgb(image)
    return pixels, notes + more


def _notes_on_file(image: ImageFile.ImageFile) -> tuple[str, ...]:
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"only the first of {frames} frames is used")
    if is_deep_color(image):
        notes.append("16-bit colour: the high byte is used")
    return tuple(notes)


def is_deep_color(image: Image.Image) -> bool:
    """Whether an image, opened and not loaded, has 16-bit colours, which arrive as 8-bit RGB."""
    # Only how the file is unpacked tells ("RGB;16B").
    unpacking = "".join(str(tile.args) for tile in getattr(image, "tile", []))
    return not image.mode.startswith("I") and ";16" in unpacking


def _to_rgb(image: Image.Image) -> tuple[UInt8[np.ndarray, "h w 3"], tuple[str, ...]]:
    mode = image.mode
    if mode.startswith("I;16"):
        # The high byte is a fixed rule; stretching to the image's own range would make the same
        # scene look different from file to file.
        high = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(high[:, :, None], 3, axis=2), ("16-bit grey: the high byte is used",)
    if mode in ("I", "F"):
        kind = "32-bit integers" if mode == "I" else "floating-point numbers"
        raise DataError(f"pixels are {kind} of unknown range; save it as 8-bit RGB")
    notes: tuple[str, ...] = ()
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
            notes += ("transparent parts are drawn over black",)
    elif mode not in ("RGB", "L", "P", "1"):
        notes += (f"converted from {mode} to RGB",)
    return np.array(image.convert("RGB")), notes


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """An encoded image as RGB, without its EXIF orientation, which its label would not follow.

    Raises:
      DataError: the bytes do not decode.
    """
    pixels = _pixels(data)
    if pixels is not None:
        return pixels
    return _decode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def decode_label(data: bytes) -> UInt8[np.ndarray, "h w"]:
    """An encoded map of 8-bit label ids.

    Raises:
      DataError: the bytes do not decode, or to something else than one 8-bit channel.
    """
    label = _pixels(data)
    if label is None:
        label = _decode(data, cv2.IMREAD_UNCHANGED)
    if label.ndim != 2 or label.dtype != np.uint8:
        raise DataError(f"the label is {label.dtype} {label.shape}, not one 8-bit channel")
    return label


def count_ids(label: UInt8[np.ndarray, "h w"]) -> Int64[np.ndarray, "256"]:
    """Pixels of each id."""
    # In half the time of NumPy's bincount, and without the interpreter's lock.
    return cv2.calcHist([label], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def encode_label(label: UInt8[np.ndarray, "h w"]) -> bytes:
    """A map of 8-bit ids as a PNG."""
    return cv2.imencode(".png", label)[1].tobytes()


def encode_pixels(pixels: UInt8[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]) -> bytes:
    """An image or label as its bare pixels, in the form of Netpbm: nothing decodes faster."""
    height, width = pixels.shape[:2]
    header = b"P%d %d %d 255\n" % (5 if pixels.ndim == 2 else 6, width, height)
    return header + pixels.tobytes()


def _pixels(data: bytes) -> np.ndarray | None:
    """The array of `encode_pixels`, a view; None of other bytes."""
    if data[:3] not in (b"P5 ", b"P6 "):
        return None
    header, _, _ = data[:40].partition(b"\n")
    width, height = (int(number) for number in header.split()[1:3])
    shape = (height, width) if data[1:2] == b"5" else (height, width, 3)
    if len(data) != len(header) + 1 + int(np.prod(shape)):
        raise DataError("torn")
    return np.frombuffer(data, np.uint8, offset=len(header) + 1).reshape(shape)


def _decode(data: bytes, flags: int) -> np.ndarray:
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise DataError(f"does not decode: {error.err}") from None
    if decoded is None:
        raise DataError("does not decode")
    return decoded
