"""The header of a BMP file, as far as Pillow takes the bytes of its pixels for something else."""

import struct

from PIL import ImageFile

_FILE_HEADER, _HEADER, _COLORS = 14, 40, 256
# The header of OS/2 has sides of 16 bits, colours of three bytes, and neither compression nor a
# number of colours.
_OF_OS2 = 12


def is_misread(file: ImageFile.ImageFile, data: bytes) -> bool:
    """Returns whether Pillow has opened palette indices of other bits as 1 or 8 bits of grey.

    It looks at the colours alone: a palette of black and white counts as 1 bit for each pixel, and
    one of the first greys as 8, whatever the header says.
    """
    if file.format != "BMP" or file.mode not in ("1", "L"):
        return False
    return _bits(data) != (1 if file.mode == "1" else 8)


def with_all_colors(file: ImageFile.ImageFile, data: bytes) -> bytes:
    """Returns the file with a palette of 256 colours, which Pillow reads as a palette image.

    The colours beyond those of the file are black, so that they are no greys in their order.
    """
    start = _FILE_HEADER + int.from_bytes(data[14:18], "little")
    if start == _FILE_HEADER + _OF_OS2:
        width, height = struct.unpack_from("<HH", data, 18)
        compression, colors, size = 0, 1 << _bits(data), 3
    else:
        width, height = struct.unpack_from("<Ii", data, 18)
        (compression,) = struct.unpack_from("<I", data, 30)
        colors, size = struct.unpack_from("<I", data, 46)[0] or 1 << _bits(data), 4
    places = range(start, start + size * min(colors, _COLORS), size)
    palette = b"".join(data[place : place + 3] + b"\0" for place in places)
    header = struct.pack(
        "<IIiHHIIIIII",
        *(_HEADER, width, height, 1, _bits(data), compression, 0, 0, 0, _COLORS, 0),
    )
    pixels = data[file.tile[0].offset :]
    offset = _FILE_HEADER + _HEADER + 4 * _COLORS
    head = b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset)
    return head + header + palette.ljust(4 * _COLORS, b"\0") + pixels


def _bits(data: bytes) -> int:
    """Returns the bits of a pixel, by the header."""
    place = 24 if data[14] == _OF_OS2 else 28
    return int.from_bytes(data[place : place + 2], "little")
