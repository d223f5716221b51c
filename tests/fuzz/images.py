"""`predict` of images: damaged, of every kind that Pillow writes, and things that are none."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from tests.fuzz.case import Case, Place, Rng
from tests.fuzz.mutations import NAMES, choose, mutate_bytes, photo

FORMATS = (
    *(("PNG", "png", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")),
    *(("TIFF", "tif", mode) for mode in ("RGB", "RGBA", "L", "I", "I;16", "F", "CMYK", "LAB")),
    *(("JPEG", "jpg", mode) for mode in ("RGB", "L", "CMYK")),
    *(("BMP", "bmp", mode) for mode in ("RGB", "L", "P")),
    *(("WEBP", "webp", mode) for mode in ("RGB", "RGBA")),
    ("GIF", "png", "P"),
    ("PPM", "png", "RGB"),
    ("EPS", "png", "RGB"),
    ("ICO", "bmp", "RGBA"),
    ("TGA", "jpg", "RGB"),
    ("PCX", "bmp", "RGB"),
    ("JPEG2000", "tif", "RGB"),
    ("PDF", "png", "RGB"),
)
SIDES = (0, 1, 2**16, 2**24, 178_000_000, 2**31 - 1, 2**32 - 1)


def images(place: Place, rng: Rng) -> Case:
    folder = place.folder / "photos"
    folder.mkdir()
    good = folder / "good.png"
    Image.fromarray(photo(np.random.default_rng(0), (48, 64))).save(good)
    for index in range(int(rng.integers(1, 7))):
        _item(folder, index, rng)

    def check(status: int) -> None:
        # Nothing else keeps the good image from being labelled, once the arguments are taken.
        assert (place.output / "good_label.png").is_file(), "a bad item ended the rest"

    return Case(
        [
            "predict",
            f"--workdir={place.finished}",
            f"--input={folder}",
            f"--output={place.output}",
        ],
        check=check,
    )


def _item(folder: Path, index: int, rng: Rng) -> None:
    form, suffix, mode = choose(rng, FORMATS)
    data = _encoded(form, mode, rng)
    path = folder / f"{_name(rng)}{index}.{choose(rng, (suffix, suffix, suffix.upper()))}"
    match int(rng.integers(10)):
        case 0 | 1 | 2 | 3:
            data = mutate_bytes(data, rng)
        case 4:
            data = _png_of_claims(rng)
        case 5:
            data = _png_with_texts(rng)
        case 6:
            _no_file(path, rng)
            return
    path.write_bytes(data)


def _name(rng: Rng) -> str:
    if rng.random() < 0.7:
        return "photo"
    name = choose(rng, NAMES).replace("\0", "").replace("/", "_").replace("\ud800", "?")
    while len(name.encode()) > 240:
        name = name[:-1]
    return name.lstrip(".")


def _encoded(form: str, mode: str, rng: Rng) -> bytes:
    size = (int(rng.integers(1, 80)), int(rng.integers(1, 80)))
    image = Image.fromarray(photo(rng, size))
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, size).astype(np.uint16))
    elif mode == "F":
        image = Image.fromarray(rng.random(size).astype(np.float32))
    elif mode == "LA":
        image = image.convert("L").convert("LA")
    else:
        image = image.convert(mode)
    options = {}
    if form in ("PNG", "JPEG", "WEBP", "TIFF") and rng.random() < 0.3:
        exif = Image.Exif()
        # Of orientations there are 1 to 8; libtiff writes no other.
        exif[0x0112] = int(rng.integers(1, 9) if form == "TIFF" else rng.integers(0, 10))
        options["exif"] = exif
    if form in ("GIF", "TIFF", "WEBP", "PNG") and mode in ("RGB", "P", "L") and rng.random() < 0.3:
        options |= {"save_all": True, "append_images": [image, image]}
    if form == "TIFF" and mode in ("RGB", "L"):
        kinds = (None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg")
        options["compression"] = choose(rng, kinds)
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png_of_claims(rng: Rng) -> bytes:
    """A short file whose header, with a right checksum, says that it is enormous or empty."""
    depth, kind = choose(rng, ((8, 2), (8, 0), (16, 6), (1, 0), (3, 7)))
    header = struct.pack(">IIBBBBB", choose(rng, SIDES), choose(rng, SIDES), depth, kind, 0, 0, 0)
    body = zlib.compress(bytes(int(rng.integers(1, 200))))
    chunks = _chunk(b"IHDR", header), _chunk(b"IDAT", body), _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _png_with_texts(rng: Rng) -> bytes:
    info = PngImagePlugin.PngInfo()
    for _ in range(int(rng.integers(1, 4))):
        info.add_text("note", "x" * int(choose(rng, (10, 10**6, 2 * 10**7))), zip=True)
    file = io.BytesIO()
    Image.fromarray(photo(rng, (9, 9))).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def _no_file(path: Path, rng: Rng) -> None:
    match int(rng.integers(6)):
        case 0:
            os.mkfifo(path)
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            path.mkdir()
        case 3:
            path.symlink_to(path)
        case 4:
            path.symlink_to(path.parent)
        case 5:
            path.write_bytes(b"")
