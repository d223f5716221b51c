"""Transparency of all kinds is drawn over black, also that of one colour (tRNS) of a PNG."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from danet_jax.input_pipeline.images import codec, conversion
from tests.input_pipeline.folder import (
    HEIGHT,
    WIDTH,
    draw_image,
    open_split,
    prepare,
    survey_of,
    write_folder,
)
from tests.input_pipeline.images.test_formats import chunk, with_chunk

NOTE = "transparent parts are drawn over black"
RANDOM = np.random.default_rng(3)


def png(pixels, bits):
    """A PNG of grey of few bits, or of grey or RGB of 8 or 16."""
    if bits >= 8:
        return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
    height, width = pixels.shape
    each = np.unpackbits(pixels.astype(np.uint8)[..., None], axis=2)[:, :, 8 - bits :]
    rows = np.packbits(each.reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def drawn(bits, bands, size=(24, 16)):
    """Pixels, one colour of them, and what 8 bits make of each."""
    top = (1 << bits) - 1
    pixels = RANDOM.integers(0, 1 << min(bits, 4), (*size, *bands)) * (top // min(top, 15))
    pixels = pixels.astype(np.uint16 if bits == 16 else np.uint8)
    color = pixels[5, 3]
    shown = pixels >> 8 if bits == 16 else pixels.astype(np.uint16) * 255 // top
    shown = shown if bands else shown[..., None].repeat(3, axis=2)
    clear = (pixels == color).all(axis=-1) if bands else pixels == color
    return pixels, color, np.where(clear[..., None], 0, shown).astype(np.uint8), clear


KINDS = [(1, ()), (2, ()), (4, ()), (8, ()), (16, ()), (8, (3,)), (16, (3,))]


@pytest.mark.parametrize(("bits", "bands"), KINDS)
def test_one_transparent_colour(bits, bands):
    pixels, color, expected, clear = drawn(bits, bands)
    data = with_chunk(png(pixels, bits), b"tRNS", np.atleast_1d(color).astype(">u2").tobytes())
    image, notes = conversion.convert_image(data)
    np.testing.assert_array_equal(image, expected)
    assert 0 < clear.sum() < clear.size
    assert notes[-1] == NOTE
    assert len(notes) == 1 + (bits == 16)


@pytest.mark.parametrize("bands", [(), (3,)])
def test_16_bits_are_compared_as_a_whole(bands):
    """The low byte counts, although only the high one is shown."""
    pixels = np.full((2, 2, *bands), 0x1234, np.uint16)
    pixels[0, 0] = 0x1235
    color = np.full(3 if bands else 1, 0x1235, ">u2").tobytes()
    image, _ = conversion.convert_image(with_chunk(png(pixels, 16), b"tRNS", color))
    assert image[..., 0].tolist() == [[0, 0x12], [0x12, 0x12]]


def test_a_value_that_does_not_occur_changes_nothing():
    """3 of 2 bits is shown as 255, and the 3 of 8 bits is another."""
    for bits, color in ((2, 3), (4, 15), (8, 7)):
        pixels = RANDOM.integers(0, 3, (9, 9))
        data = with_chunk(png(pixels, bits), b"tRNS", struct.pack(">H", color))
        image, notes = conversion.convert_image(data)
        np.testing.assert_array_equal(image[..., 0], pixels * (255 // ((1 << bits) - 1)))
        assert notes == ()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_transparency_is_turned_with_its_image(orientation):
    pixels, color, expected, _ = drawn(16, ())
    data = with_chunk(png(pixels, 16), b"tRNS", struct.pack(">H", color))
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, *7 * [0]])
    image, _ = conversion.convert_image(with_chunk(data, b"eXIf", exif))
    stored = cv2.imencode(".png", expected)[1].tobytes()
    np.testing.assert_array_equal(
        image, conversion.convert_image(with_chunk(stored, b"eXIf", exif))[0]
    )
    np.testing.assert_array_equal(conversion.convert_image(data)[0], expected)


@pytest.mark.parametrize("storage", ["original", "fast"])
@pytest.mark.parametrize(("bits", "bands"), KINDS)
def test_a_prepared_image_is_that_of_prediction(tmp_path, bits, bands, storage):
    source = write_folder(tmp_path / "mine")
    pixels, color, expected, _ = drawn(bits, bands, (HEIGHT, WIDTH))
    data = with_chunk(png(pixels, bits), b"tRNS", np.atleast_1d(color).astype(">u2").tobytes())
    (source / "images/train/photo_1.png").write_bytes(data)
    prepare(source, storage=storage)
    split = open_split(source)
    np.testing.assert_array_equal(split[1]["image"], expected)
    np.testing.assert_array_equal(split[0]["image"], draw_image(0))
    assert f"1 image (images/train/photo_1.png): {NOTE}." in survey_of(source).warnings


def test_16_bits_are_decoded_whole():
    pixels, *_ = drawn(16, (3,))
    np.testing.assert_array_equal(codec.decode_deep_image(png(pixels, 16)), pixels)
