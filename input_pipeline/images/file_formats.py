"""Recognises by content the formats that cannot be read, and those that change pixels."""

import contextlib
import re

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images import tiff

_CONVERT = "convert it to PNG or JPEG, for example with `magick FILE out.png`"
_DEVELOP = "develop it to JPEG or 8-bit TIFF in a photo program (darktable, RawTherapee)"

# Files are compared with these beginnings in this order.
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (rb"....ftyp(heic|heix|heim|heis|hevc|hevx|mif1|msf1)", "a HEIC/HEIF photo", _CONVERT),
    (rb"....ftyp(avif|avis)", "an AVIF image", _CONVERT),
    (rb"....ftypcrx ", "a camera's raw photo (CR3)", _DEVELOP),
    (rb"....ftyp", "a video", "export its frames, for example with `ffmpeg -i FILE %05d.png`"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 image", _CONVERT),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL image", _CONVERT),
    (rb"FUJIFILMCCD-RAW|II(RO|RS|U\x00)|MMOR|FOVb|\x00MRM", "a camera's raw photo", _DEVELOP),
    (rb"8BPS", "a Photoshop file", _CONVERT),
    (rb"gimp xcf", "a GIMP file", _CONVERT),
    (rb"%PDF", "a PDF document", "export its pages as PNG"),
    (rb"%!PS|\xc5\xd0\xd3\xc6|%!", "a PostScript file (EPS)", _CONVERT),
    (rb"P[1-7f-hF-H][\s#]", "a Netpbm image (PPM, PGM, PBM)", _CONVERT),
    (rb"\x00\x00\x01\x00", "an icon", _CONVERT),
    (rb"v/1\x01", "an OpenEXR image", "save it as 8-bit PNG"),
    (rb"#\?RADIANCE|#\?RGBE", "a Radiance HDR image", "save it as 8-bit PNG"),
    (rb"DDS |qoif|\x59\xa6\x6a\x95", "a DDS, QOI or Sun raster image", _CONVERT),
    (rb"SIMPLE  =", "a FITS image", "save it as 8-bit PNG"),
    (rb".{128}DICM", "a DICOM image", "export it as 8-bit PNG"),
    (rb"\x89HDF|\x93NUMPY|MATLAB", "a file of arrays", "save them as 8-bit PNG"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself", "run `git lfs pull`"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "an archive", "unpack it"),
    (rb"\s*<(!DOCTYPE html|html)", "a web page", "download the image again; this was an answer"),
    (rb"\s*(<\?xml.*?)?(<!.*?>\s*)*<svg", "an SVG drawing", "export it as PNG"),
    (rb"\s*<\?xml", "an XML file", "look for the image that it belongs to"),
)  # fmt: skip
_LOOKED_AT = 2048


def name_content(data: bytes) -> str:
    """Returns what the bytes are and what to do, as part of a sentence; "" if unknown."""
    start = data[:_LOOKED_AT]
    for beginning, name, cure in _BEGINNINGS:
        if re.match(beginning, start, re.DOTALL | re.IGNORECASE):
            return f"it is {name}, by its content, which is not read here: {cure}"
    if start and not start.strip(b"\0"):
        return "it begins with zero bytes only, as a broken copy or download does: copy it again"
    return ""


def name_lossy(data: bytes) -> str:
    """Returns the lossy format of a file, "a JPEG"; "" if its format is lossless or unknown."""
    if data.startswith(b"\xff\xd8\xff"):
        return "a JPEG"
    if _is_lossy_webp(data):
        return "a lossy WebP"
    if tiff.is_tiff(data):
        with contextlib.suppress(DataError):
            for directory in tiff.read_directories(data):
                if directory.is_image and directory.compression in tiff.JPEG:
                    return "a TIFF compressed as JPEG"
                if directory.compression == tiff.WEBP and _is_lossy_webp(data, directory.start):
                    return "a TIFF compressed as lossy WebP"
    return ""


def _is_lossy_webp(data: bytes, offset: int = 0) -> bool:
    """Returns whether a WebP begins at `offset` whose first picture is lossy."""
    if data[offset : offset + 4] != b"RIFF" or data[offset + 8 : offset + 12] != b"WEBP":
        return False
    offset += 12
    while offset + 8 <= len(data):
        kind = data[offset : offset + 4]
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        # A frame of an animation is a header of 16 bytes and chunks of its own.
        inside = 16 if kind == b"ANMF" else int.from_bytes(data[offset + 4 : offset + 8], "little")
        offset += 8 + inside + inside % 2
    return False
