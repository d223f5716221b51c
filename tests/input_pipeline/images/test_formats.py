"""Images as cameras, phones, satellites and programs write them: read right, or named."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images import codec, conversion, opening

RANDOM = np.random.default_rng(7)
RGB = RANDOM.integers(0, 256, (24, 16, 3), dtype=np.uint8)


def tiff(*pages, order="<"):
    """An uncompressed TIFF of pages, each (pixels, {tag: numbers}), the tags beside the usual."""
    data, link = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4)), 4
    for pixels, tags in pages:
        raw = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        place = len(data)
        data += raw + bytes(len(raw) % 2)
        bands = 1 if pixels.ndim == 2 else pixels.shape[2]
        entries = {
            256: [pixels.shape[1]], 257: [pixels.shape[0]], 258: [8 * pixels.itemsize] * bands,
            259: [1], 262: [2 if bands > 2 else 1], 273: [place], 277: [bands],
            278: [pixels.shape[0]], 279: [len(raw)], **tags,
        }  # fmt: skip
        start = len(data)
        body, tail = b"", b""
        for tag, values in sorted(entries.items()):
            letter, kind = ("I", 4) if tag in (273, 279) else ("H", 3)
            packed = struct.pack(f"{order}{len(values)}{letter}", *values)
            if len(packed) > 4:
                at = start + 6 + 12 * len(entries) + len(tail)
                packed, tail = struct.pack(order + "I", at), tail + packed
            body += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
        struct.pack_into(order + "I", data, link, start)
        data += struct.pack(order + "H", len(entries)) + body
        link = len(data)
        data += bytes(4) + tail + bytes(len(tail) % 2)
    return bytes(data)


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def with_chunk(png, kind, content, *, at_the_end=False):
    place = png.rindex(b"IEND") - 4 if at_the_end else 33
    return png[:place] + chunk(kind, content) + png[place:]


def deep_png(pixels):
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return cv2.imencode(".png", bgr)[1].tobytes()


# --- 16 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("bands", [(), (3,)])
@pytest.mark.parametrize("form", ["png", "<", ">"])
def test_few_bits_in_sixteen_are_said_to_be_nearly_black(bits, bands, form):
    pixels = RANDOM.integers(0, 2**bits, (64, 48, *bands), dtype=np.uint16)
    pixels[0, 0] = 65535  # a hot pixel, or one without data
    data = deep_png(pixels) if form == "png" else tiff((pixels, {}), order=form)
    image, (note,) = conversion.convert_image(data)
    np.testing.assert_array_equal(image if bands else image[..., 0], pixels >> 8)
    kind = "colour" if bands else "grey"
    assert note.startswith(f"16-bit {kind}: the high byte is used, and the image comes out nearly")
    assert f"end at {2**bits - 1} ({bits} bits)" in note
    assert "rescale" in note


@pytest.mark.parametrize("bands", [(), (3,)])
def test_sixteen_bits_are_only_noted(bands):
    pixels = RANDOM.integers(0, 2**16, (24, 16, *bands), dtype=np.uint16)
    _, notes = conversion.convert_image(deep_png(pixels))
    assert notes == (f"16-bit {'colour' if bands else 'grey'}: the high byte is used",)


# --- TIFF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "tags",
    [{254: [1]}, {254: [4], 262: [4]}, {254: [5], 262: [4]}, {255: [2]}],
    ids=["overview", "mask", "mask of an overview", "old overview"],
)
@pytest.mark.parametrize("first", [False, True])
def test_overviews_and_masks_are_no_pages(order, tags, first):
    small = np.zeros((12, 8) if 262 in tags else (12, 8, 3), np.uint8)
    pages = [(RGB, {}), (small, tags)]
    image, notes = conversion.convert_image(tiff(*reversed(pages) if first else pages, order=order))
    np.testing.assert_array_equal(image, RGB)
    assert notes == ()


def test_real_pages_are_counted_between_masks():
    mask = np.ones((24, 16), np.uint8)
    data = tiff((RGB, {}), (mask, {254: [4], 262: [4]}), (255 - RGB, {254: [2]}))
    assert opening.open_image(data).pages == 2
    image, notes = conversion.convert_image(data)
    np.testing.assert_array_equal(image, RGB)
    assert notes == ("only the first of 2 frames is used",)


def test_directories_that_never_end_or_are_cut_off():
    data = bytearray(tiff((RGB, {}), (255 - RGB, {})))
    second = data.rindex(struct.pack("<HHI", 256, 3, 1)) - 2
    assert opening.open_image(bytes(data)).pages == 2
    entries = struct.unpack_from("<H", data, second)[0]
    struct.pack_into("<I", data, second + 2 + 12 * entries, second)  # leads to itself
    assert opening.open_image(bytes(data)).pages == 2
    struct.pack_into("<I", data, second + 2 + 12 * entries, len(data) + 8)
    with pytest.raises(DataError, match="torn: its directories are cut off"):
        opening.open_image(bytes(data))


@pytest.mark.parametrize(
    ("extra", "note"),
    [
        ([0], "the first 3 of 4 bands are used"),
        ([0, 0], "the first 3 of 5 bands are used"),
        ([1], "premultiplied transparency is left out"),
        ([2], "the fourth band is called transparency"),
        ([], "the fourth band is called transparency"),
    ],
)
@pytest.mark.parametrize("level", [20, None])
def test_near_infrared_does_not_darken(extra, note, level):
    bands = max(len(extra), 1)
    more = RANDOM.integers(0, 256, (24, 16, bands), dtype=np.uint8)
    more = more if level is None else np.full_like(more, level)
    tags = {338: extra} if extra else {}
    image, notes = conversion.convert_image(tiff((np.dstack([RGB, more]), tags)))
    np.testing.assert_array_equal(image, RGB)
    assert len(notes) == 1
    assert note in notes[0]


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_black_and_white_of_scanned_films_are_not_exchanged(depth):
    grey = np.repeat(RGB[..., :1], 3, axis=2)
    stored = (255 - RGB[..., 0]).astype(depth) * depth(257 if depth is np.uint16 else 1)
    image, _ = conversion.convert_image(tiff((stored, {262: [0]})))
    np.testing.assert_array_equal(image, grey)


def test_grey_that_does_not_say_what_0_is_is_shown_as_others_show_it():
    data = tiff((RGB[..., 0], {}))
    unsaid = data.replace(struct.pack("<HHI", 262, 3, 1), struct.pack("<HHI", 263, 3, 1))
    assert unsaid != data
    np.testing.assert_array_equal(
        conversion.convert_image(unsaid)[0], conversion.convert_image(data)[0]
    )


def test_lab_is_converted():
    lab = np.zeros((24, 16, 3), np.uint8)
    lab[..., 0] = 255  # white
    image, notes = conversion.convert_image(tiff((lab, {262: [8]})))
    assert image.min() >= 254
    assert notes == ("converted from LAB to RGB",)


@pytest.mark.parametrize(
    ("pixels", "tags", "what"),
    [
        (np.zeros((24, 16, 13), np.uint16), {262: [1]}, "13 bands of 16-bit whole numbers"),
        (np.zeros((24, 16, 3), np.float32), {339: [3] * 3}, "3 bands of 32-bit floating-point"),
        (np.zeros((24, 16), np.uint16), {262: [32803]}, "raw photo.* develop"),
        (RGB, {50706: [1, 4]}, "raw photo.* develop"),
        (RGB, {254: [1], 330: [8]}, "raw photo.* develop"),
        (np.zeros((24, 16, 3), np.uint16), {284: [2]}, "one after the other.*INTERLEAVE=PIXEL"),
        (np.zeros((24, 16), np.float64), {339: [3]}, "1 band of 64-bit.* -b 1`"),
        (np.full((24, 16), -1, np.int8), {339: [2]}, "signed integers"),
    ],
)
def test_kinds_of_tiff_that_are_not_read_are_named(pixels, tags, what):
    with pytest.raises(DataError, match=what):
        conversion.convert_image(tiff((pixels, tags)))


def test_geotiff_says_nothing_on_the_terminal(capfd):
    data = tiff((RGB, {33550: [1, 1, 1], 34735: [1, 1, 0, 1]}))
    np.testing.assert_array_equal(codec.decode_image(data), RGB)
    assert capfd.readouterr() == ("", "")


def test_places_beyond_any_memory():
    data = bytearray(encoded(RGB, "TIFF", big_tiff=True))
    np.testing.assert_array_equal(conversion.convert_image(bytes(data))[0], RGB)
    struct.pack_into("<Q", data, 8, 2**64 - 8)
    for read in (conversion.convert_image, codec.decode_image):
        with pytest.raises(DataError, match="torn"):
            read(bytes(data))


# --- PNG -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize(
    ("kind", "before"),
    [(b"zTXt", b"note\0\0"), (b"iTXt", b"note\0\1\0\0\0"), (b"iCCP", b"profile\0\0")],
)
def test_long_texts_and_profiles_are_no_obstacle(kind, before, at_the_end):
    content = before + zlib.compress(b"y" * 3_000_000)
    data = with_chunk(encoded(RGB), kind, content, at_the_end=at_the_end)
    image, notes = conversion.convert_image(data)
    np.testing.assert_array_equal(image, RGB)
    assert notes == ()
    np.testing.assert_array_equal(codec.decode_image(data), RGB)


def test_odd_colour_profiles_say_nothing_on_the_terminal(capfd):
    data = encoded(RGB, icc_profile=b"no profile" * 20)
    np.testing.assert_array_equal(codec.decode_image(data), RGB)
    assert capfd.readouterr() == ("", "")


def test_many_texts_and_torn_exif_are_no_obstacle():
    info = PngImagePlugin.PngInfo()
    for _ in range(70):
        info.add_text("note", "y" * 1_000_000, zip=True)
    data = with_chunk(encoded(RGB, pnginfo=info), b"eXIf", b"no TIFF at all")
    np.testing.assert_array_equal(conversion.convert_image(data)[0], RGB)


# --- sizes ---------------------------------------------------------------------------------------


def claims(width, height, form):
    if form == "jpeg":
        data = bytearray(encoded(RGB, "JPEG"))
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
        return bytes(data)
    if form == "tiff":
        return tiff((RGB, {256: [width], 257: [height]}))
    header = struct.pack(">II", width, height) + encoded(RGB)[24:29]
    return encoded(RGB)[:8] + chunk(b"IHDR", header) + encoded(RGB)[33:]


@pytest.mark.parametrize("read", [conversion.convert_image, codec.decode_image, codec.decode_label])
@pytest.mark.parametrize(
    ("width", "height", "form", "what"),
    [
        (178_000_000, 1, "png", "a side has at most 65535 pixels"),
        (1, 65_536, "png", "a side has at most 65535 pixels"),
        (20_000, 20_000, "png", "more than 178 million pixels"),
        (60_000, 60_000, "jpeg", "more than 178 million pixels"),
        (60_000, 60_000, "tiff", "more than 178 million pixels"),
    ],
)
def test_sizes_are_refused_by_the_header(read, width, height, form, what):
    with pytest.raises(DataError, match=what):
        read(claims(width, height, form))


def test_the_longest_side_is_read():
    strip = np.zeros((1, opening.LONGEST_SIDE, 3), np.uint8)
    assert conversion.convert_image(encoded(strip))[0].shape == strip.shape
    assert codec.decode_image(encoded(strip)).shape == strip.shape


# --- contents under other names ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "what", "cure"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC", "convert"),
        (b"\0\0\0\x1cftypavif", "AVIF", "convert"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "convert"),
        (b"\0\0\0\x18ftypcrx ", "raw photo", "develop"),
        (b"\0\0\0\x20ftypisom", "video", "ffmpeg"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript", "convert"),
        (b"%PDF-1.7", "PDF", "export"),
        (b"<?xml version='1.0'?>\n<!-- a -->\n<svg xmlns=", "SVG", "export"),
        (b"<!doctype html><html>", "web page", "download"),
        (b"8BPS\0\1", "Photoshop", "convert"),
        (b"P6\n# a comment\n2 2\n255\n", "Netpbm", "convert"),
        (b"P6 # a comment\n2 2 255\n", "Netpbm", "convert"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS", "git lfs pull"),
        (bytes(40), "zero bytes", "copy it again"),
    ],
)
def test_other_formats_are_named_with_the_cure(start, what, cure):
    with pytest.raises(DataError, match=f"{what}.*{cure}"):
        conversion.convert_image(start + bytes(400))
    with pytest.raises(DataError, match="does not decode"):
        codec.decode_image(start + bytes(400))


def test_moving_images_give_their_first_frame():
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for form, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
        image, notes = conversion.convert_image(data)
        np.testing.assert_array_equal(image, RGB)
        assert notes == ("only the first of 2 frames is used",)


@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_photos_of_phones(form):
    photo = Image.fromarray(np.full((24, 16, 3), (200, 90, 30), np.uint8))
    options = {"save_all": True, "append_images": [photo]} if form == "MPO" else {}
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo, form, exif=exif, quality=95, **options) + b"ftypmp42 a video"
    image, _ = conversion.convert_image(data)
    assert image.shape == (16, 24, 3)
    np.testing.assert_allclose(image, np.broadcast_to((200, 90, 30), image.shape), atol=4)
    assert codec.decode_image(data).shape == (24, 16, 3)


def test_memory_that_is_not_there_is_named(monkeypatch):
    def fail(self):
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(DataError, match="too little memory"):
        conversion.convert_image(encoded(RGB))
