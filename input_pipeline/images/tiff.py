"""The directories of a TIFF: which one is the image, and which are overviews, masks, thumbnails.

Pillow and OpenCV count all of them as pages. (TIFF 6.0; Adobe's TIFF Technical Notes; BigTIFF.)
"""

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

from danet_jax.base.errors import DataError

_SUBFILE, _OLD_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _BANDS = 254, 255, 258, 259, 262, 277
_PLANAR = 284
_STRIPS, _TILES = 273, 324
_SUBDIRECTORIES, _EXTRA, _SAMPLE_FORMAT, _DNG_VERSION = 330, 338, 339, 50706
# "A reduced image" and "a mask" are bits of NewSubfileType; bit 1, "one page of several", is not.
_REDUCED, _MASK = 1, 4
# These values of Compression are old and new JPEG, and WebP, which can be lossy or lossless.
JPEG, WEBP = (6, 7), 50001
_MASK_PHOTOMETRIC, _SENSOR_PHOTOMETRICS = 4, (32803, 34892)
_PREMULTIPLIED = 1
# Types of whole numbers have their sizes in bytes and their letters of `struct`.
_NUMBERS = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 13: (4, "I"), 16: (8, "Q"), 18: (8, "Q")}
_SIZES = {2: 1, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 17: 8}
_MOST_DIRECTORIES = 10_000
_MOST_VALUES = 64


@dataclasses.dataclass(frozen=True)
class Directory:
    """A directory; `tags` maps each tag to the format and the offset of its values."""

    offset: int
    next_at: int
    tags: dict[int, tuple[str, int]]
    data: bytes = dataclasses.field(repr=False)

    def values(self, tag: int) -> tuple[int, ...]:
        """Returns the whole numbers of a tag, () if it has none."""
        if tag not in self.tags:
            return ()
        form, offset = self.tags[tag]
        try:
            return struct.unpack_from(form, self.data, offset)
        except (struct.error, OverflowError):
            return ()

    def value(self, tag: int, default: int = 0) -> int:
        """Returns the first number of a tag."""
        return next(iter(self.values(tag)), default)

    @property
    def is_image(self) -> bool:
        """Whether it is neither a smaller copy of another image nor a mask."""
        subfile = self.value(_SUBFILE)
        return (
            not subfile & (_REDUCED | _MASK)
            and self.value(_OLD_SUBFILE) != 2
            and self.value(_PHOTOMETRIC) != _MASK_PHOTOMETRIC
        )

    @property
    def is_sensor_data(self) -> bool:
        """Whether it belongs to a camera's raw file, whose first picture is a small preview."""
        hides_more = self.value(_SUBFILE) & _REDUCED and _SUBDIRECTORIES in self.tags
        return bool(
            _DNG_VERSION in self.tags
            or self.value(_PHOTOMETRIC) in _SENSOR_PHOTOMETRICS
            or hides_more
        )

    @property
    def compression(self) -> int:
        return self.value(_COMPRESSION, 1)

    @property
    def start(self) -> int:
        """The offset of the first strip or tile of its pixels."""
        return self.value(_STRIPS) or self.value(_TILES)

    @property
    def bands(self) -> int:
        return self.value(_BANDS, 1)

    def __str__(self) -> str:
        bands = self.bands
        bits = self.value(_BITS, 1)
        kind = {2: "signed integers", 3: "floating-point numbers"}.get(
            self.value(_SAMPLE_FORMAT, 1), "whole numbers"
        )
        return f"{bands} band{'s' if bands > 1 else ''} of {bits}-bit {kind}"


def is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_plain(tags: Mapping[int, Any]) -> bool:
    """Returns whether the first directory, by Pillow's tags, is an ordinary image.

    If so, nothing else in the file changes which image is meant, or makes it unreadable.
    """
    return (
        not tags.get(_SUBFILE, 0) & (_REDUCED | _MASK)
        and tags.get(_OLD_SUBFILE) != 2
        and tags.get(_PHOTOMETRIC) not in (_MASK_PHOTOMETRIC, *_SENSOR_PHOTOMETRICS)
        and tags.get(_PLANAR, 1) == 1
        # The first picture of some raw files is compressed as old JPEG.
        and tags.get(_COMPRESSION, 1) != JPEG[0]
        and _DNG_VERSION not in tags
    )


def read_directories(data: bytes) -> list[Directory]:
    """Returns the main directories in order, without those that only other directories lead to.

    Raises:
      DataError: the file is torn, or has more than any real one.
    """
    order = "<" if data[:1] == b"I" else ">"
    is_big = b"+" in data[2:4]
    offset_form, count_form, entry, head = ("Q", "Q", 20, 8) if is_big else ("I", "H", 12, 4)
    directories: list[Directory] = []
    visited: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + offset_form, data, head)
        while offset and offset not in visited:
            visited.add(offset)
            if len(visited) > _MOST_DIRECTORIES:
                raise DataError(f"more than {_MOST_DIRECTORIES} pages")
            (count,) = struct.unpack_from(order + count_form, data, offset)
            first = offset + struct.calcsize(order + count_form)
            next_at = first + entry * count
            (following,) = struct.unpack_from(order + offset_form, data, next_at)
            tags = dict(
                _tag(data, order, first + entry * index, is_big=is_big) for index in range(count)
            )
            directories.append(Directory(offset, next_at, tags, data))
            offset = following
    # An offset lies behind the end, in BigTIFF even beyond any memory.
    except (struct.error, OverflowError):
        raise DataError("not a readable image, or torn: its directories are cut off") from None
    if not directories:
        raise DataError("not a readable image, or torn: it has no directory")
    return directories


def alone(data: bytes, directory: Directory, *, colours_as_stored: bool) -> bytes:
    """Returns a copy of the file in which this directory is the only one.

    `colours_as_stored` declares a premultiplied alpha band meaningless: its colours are already
    over black, and readers would divide them by alpha.
    """
    order = "<" if data[:1] == b"I" else ">"
    is_big = b"+" in data[2:4]
    form, head = (order + "Q", 8) if is_big else (order + "I", 4)
    copy = bytearray(data)
    struct.pack_into(form, copy, head, directory.offset)
    struct.pack_into(form, copy, directory.next_at, 0)
    if colours_as_stored and _EXTRA in directory.tags:
        values = tuple(0 if v == _PREMULTIPLIED else v for v in directory.values(_EXTRA))
        if values:  # The values were read, so they lie within the file.
            struct.pack_into(directory.tags[_EXTRA][0], copy, directory.tags[_EXTRA][1], *values)
    return bytes(copy)


def is_premultiplied(directory: Directory) -> bool:
    return _PREMULTIPLIED in directory.values(_EXTRA)


def are_deep_planes(directory: Directory) -> bool:
    """Returns whether bands of 16 bits are stored one after the other, uncompressed.

    Pillow takes their bytes for pixels of 8 bits, and shows stripes.
    """
    return (
        directory.value(_PLANAR, 1) == 2
        and directory.compression == 1
        and directory.bands > 1
        and directory.value(_BITS, 1) > 8
    )


def count_ignored_bands(directory: Directory) -> int:
    """Counts the bands after red, green and blue that are no transparency."""
    if directory.value(_PHOTOMETRIC) != 2:
        return 0
    return sum(extra not in (1, 2, 999) for extra in directory.values(_EXTRA))


def _tag(data: bytes, order: str, offset: int, *, is_big: bool) -> tuple[int, tuple[str, int]]:
    count_form, inline = ("Q", 8) if is_big else ("I", 4)
    tag, kind, count = struct.unpack_from(f"{order}HH{count_form}", data, offset)
    values_at = offset + 4 + inline
    size, letter = _NUMBERS.get(kind, (_SIZES.get(kind, 1), ""))
    if size * count > inline:
        (values_at,) = struct.unpack_from(order + count_form, data, values_at)
    # Values that are no whole numbers are never read; only their presence counts.
    return tag, (
        f"{order}{min(count, _MOST_VALUES)}{letter}" if letter else f"{order}0B",
        values_at,
    )
