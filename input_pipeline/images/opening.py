"""The only module that opens images: only known formats, and only within limits of size."""

import dataclasses
import io
import struct
import threading
import warnings

from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images import bmp, file_formats, tiff

# Pillow opens further formats by their content, whatever the name of the file: EPS starts
# Ghostscript.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF")

# This is in pixels. Reading takes up to 22 bytes for each, and prediction by windows less: 4 GB. It
# is just below what Pillow opens at all, so that a small file which claims to be enormous is
# refused by its header.
LARGEST_IMAGE = 178_000_000
# This is in pixels, and the longest side that JPEG allows. A longer strip would be scaled until its
# short side is that of a photograph, and need many times the memory of its own pixels.
LONGEST_SIDE = 65_535

# All threads share the list of warning filters.
_FILTERS = threading.Lock()

# Pillow raises these for broken files. struct.error and those behind it come from its format
# plugins, which do not catch everything.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
)


@dataclasses.dataclass(frozen=True)
class Opened:
    """An image whose header is read.

    `pages` counts its pages or frames, `packing` is the format of its samples in the file in
    Pillow's words ("RGB;16B"), and `notes` are sentences on what is left out.
    """

    file: ImageFile.ImageFile
    pages: int
    packing: str
    notes: tuple[str, ...]


def open_image(data: bytes) -> Opened:
    """Opens an encoded image without decoding it; of a TIFF the first page that is no overview.

    Raises:
      DataError: empty, torn, of no format of FORMATS, above LARGEST_IMAGE or LONGEST_SIDE.
    """
    if not data:
        raise DataError("empty file")
    pages, content = 0, data
    notes: tuple[str, ...] = ()
    if tiff.is_tiff(data):
        content, pages, notes = _main_directory(data)
    with _FILTERS, warnings.catch_warnings():
        # Aerial images exceed Pillow's first limit of size; its second limit still raises. Its
        # remarks on odd metadata do not concern the pixels.
        warnings.simplefilter("ignore")
        try:
            file = Image.open(io.BytesIO(content), formats=FORMATS)
            check_size(file.width, file.height)
            if bmp.is_misread(file, data):
                content = bmp.with_all_colors(file, data)
                file = Image.open(io.BytesIO(content), formats=FORMATS)
            pages = pages or getattr(file, "n_frames", 1)
        except Image.DecompressionBombError:
            raise _too_many_pixels() from None
        except UnidentifiedImageError:
            raise DataError(_why_unknown(data)) from None
        except DataError:
            raise
        except BROKEN as error:
            if _is_of_texts(error) and len(stripped := without_texts(data)) < len(data):
                shorter = stripped
            else:
                raise DataError(f"not a readable image, or torn: {error}") from None
        else:
            packing = "".join(str(tile.args) for tile in getattr(file, "tile", []))
            return Opened(file, pages, packing, notes)
    return open_image(shorter)


def load_image(data: bytes) -> Opened:
    """Opens and decodes an image.

    Pillow does this, since OpenCV silently fills up torn files.

    Raises:
      DataError: also where the pixels are torn.
    """
    opened = open_image(data)
    try:
        opened.file.load()
    except MemoryError:
        raise DataError("there is too little memory to decode it") from None
    except Exception as error:  # Pillow's plugins raise exceptions of many types.
        if _is_of_texts(error) and len(stripped := without_texts(data)) < len(data):
            return load_image(stripped)
        raise DataError(f"not a readable image, or torn: {error}") from None
    return opened


def check_size(width: int, height: int) -> None:
    """Raises a DataError for an image of this size that is too large to be decoded."""
    if width * height > LARGEST_IMAGE:
        raise _too_many_pixels()
    if max(width, height) > LONGEST_SIDE:
        raise DataError(
            f"it is {width}x{height}; a side has at most {LONGEST_SIDE} pixels here: cut it into "
            "parts"
        )


def orientation(file: Image.Image) -> int:
    """Returns the EXIF orientation: 1 if the image is stored upright, 5 to 8 if on its side.

    It is also 1 for a TIFF, which Pillow always turns itself.
    """
    return 1 if file.format == "TIFF" else tagged_orientation(file)


def tagged_orientation(file: Image.Image) -> int:
    """Returns the orientation as it is tagged in a file, also in a TIFF that is not decoded yet."""
    try:
        value = file.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # The metadata is torn, but the pixels may be whole.
        return 1
    return value if value in range(1, 9) else 1


def sizes(file: Image.Image) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the (width, height) as a file that is not decoded stores it, and upright."""
    if tagged_orientation(file) < 5:
        return file.size, file.size
    # The size of a TIFF is that after Pillow has turned it.
    ends = file.size, file.size[::-1]
    return ends[::-1] if file.format == "TIFF" else ends


def is_white_zero(file: Image.Image) -> bool:
    """Returns whether Pillow takes 0 for white in a grey TIFF, by its tag or without one."""
    return getattr(file, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation, 0) == 0


def is_deep_color(opened: Opened) -> bool:
    """Returns whether an image has 16-bit colours, which Pillow reads as 8-bit RGB."""
    # Only the packing tells, "RGB;16B": the mode is that of 8 bits. "BGR;16" are 16 bits for all
    # three colours of a BMP.
    is_color = not opened.file.mode.startswith("I") and opened.file.format != "BMP"
    return is_color and ";16" in opened.packing


def _too_many_pixels() -> DataError:
    return DataError(
        f"it has more than {LARGEST_IMAGE // 10**6} million pixels, the most that an image may "
        "have here: save it smaller, or cut into parts"
    )


def _main_directory(data: bytes) -> tuple[bytes, int, tuple[str, ...]]:
    """Returns the file reduced to its main image, its number of pages, and notes."""
    directories = tiff.read_directories(data)
    if directories[0].is_sensor_data or data[8:10] == b"CR":
        raise DataError(
            "it is a camera's raw photo, by its content, which is not read here: develop it to "
            "JPEG or 8-bit TIFF in a photo program (darktable, RawTherapee)"
        )
    images = [directory for directory in directories if directory.is_image]
    main = images[0] if images else directories[0]
    if tiff.are_deep_planes(main):
        raise DataError(
            "its 16-bit bands are stored one after the other, uncompressed, which is not read "
            "here; save it with `gdal_translate -co INTERLEAVE=PIXEL` or as PNG"
        )
    notes: tuple[str, ...] = ()
    if tiff.is_premultiplied(main):
        notes = ("a band of premultiplied transparency is left out, the colours are as stored",)
    elif ignored := tiff.count_ignored_bands(main):
        notes = (f"the first 3 of {3 + ignored} bands are used, as red, green and blue",)
    if len(directories) > 1 or tiff.is_premultiplied(main):
        data = tiff.alone(data, main, colours_as_stored=True)
    return data, max(len(images), 1), notes


def _why_unknown(data: bytes) -> str:
    if tiff.is_tiff(data):
        kind = next(iter(tiff.read_directories(data)))
        save = (
            "three of its bands as 8-bit RGB, for example with `gdal_translate -ot Byte -scale "
            "-b 1 -b 2 -b 3`"
            if kind.bands >= 3
            else "it with 8 bits, for example with `gdal_translate -ot Byte -scale -b 1`"
        )
        return f"a TIFF of {kind} is not read here, or is torn; save {save}"
    content = file_formats.name_content(data)
    return f"not a readable image: {content}" if content else "not a readable image, or torn"


def _is_of_texts(error: Exception) -> bool:
    """Returns whether Pillow refuses a PNG because its metadata is too long."""
    return isinstance(error, ValueError) and "MAX_TEXT" in str(error)


def without_texts(data: bytes) -> bytes:
    """Removes the texts and the colour profile of a PNG; its pixels need neither."""
    parts, offset = [data[:8]], 8
    while offset + 12 <= len(data):
        end = offset + 12 + int.from_bytes(data[offset : offset + 4])
        if data[offset + 4 : offset + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            parts.append(data[offset:end])
        offset = end
    return b"".join(parts)
