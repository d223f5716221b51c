"""Files that Pillow has opened are predicted as the files themselves are, or refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.input_pipeline import DataError
from danet_jax.prediction import Predictor
from tests.input_pipeline.images.test_bmp import BLACK_AND_WHITE, bmp
from tests.input_pipeline.images.test_formats import RGB, encoded, tiff, with_chunk
from tests.input_pipeline.images.test_transparency import png

RANDOM = np.random.default_rng(11)
GREY = RANDOM.integers(0, 256, (24, 16), dtype=np.uint8)
DEEP = GREY.astype(np.uint16) * 257


def unsaid(data):
    """Without PhotometricInterpretation."""
    entry = struct.pack("<HHI", 262, 3, 1)
    assert data.count(entry) == 1
    return data.replace(entry, struct.pack("<HHI", 263, 3, 1))


def of_12_bits():
    """Two pixels in three bytes, 0xABC and 0x123."""
    pixels = np.tile(np.array([[0xAB, 0xC1, 0x23]], np.uint8), (4, 8))
    return tiff((pixels, {256: [16], 258: [12]}))


# These are read otherwise, once Pillow has decoded them.
TOLD_BY_THE_FILE = {
    "16 bits, 0 is white": tiff((65535 - DEEP, {262: [0]})),
    "8 bits, not said what 0 is": unsaid(tiff((GREY, {}))),
    "12 bits": of_12_bits(),
    "premultiplied": tiff((np.dstack([RGB // 2, GREY]), {338: [1]})),
    "2 bits, one transparent": with_chunk(png(GREY >> 6, 2), b"tRNS", struct.pack(">H", 3)),
    "16-bit colours, one transparent": with_chunk(
        png(RGB.astype(np.uint16) * 257, 16),
        b"tRNS",
        (RGB[3, 3].astype(np.uint16) * 257).astype(">u2").tobytes(),
    ),
}
OTHERS = {
    "8 bits, 0 is white": tiff((255 - GREY, {262: [0]})),
    "16 bits": tiff((DEEP, {})),
    "colours": tiff((RGB, {})),
    "8 bits, one transparent": with_chunk(
        png(GREY, 8), b"tRNS", struct.pack(">H", max(16, GREY[0, 0]))
    ),
    "turned": tiff((RGB, {274: [6]})),
    "JPEG": encoded(RGB, "JPEG"),
    "GIF": encoded(GREY, "GIF"),
}


# Notes of conversion are no matter here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def read(image):
    return Predictor.read(None, image)


@pytest.mark.parametrize("name", [*TOLD_BY_THE_FILE, *OTHERS, "8-bit BMP in black and white"])
def test_an_opened_file_is_the_file(tmp_path, name):
    known = {"8-bit BMP in black and white": bmp(GREY > 99, BLACK_AND_WHITE, 8)}
    data = (TOLD_BY_THE_FILE | OTHERS | known)[name]
    (tmp_path / "x").write_bytes(data)
    expected = read(tmp_path / "x")
    with Image.open(tmp_path / "x") as opened:
        np.testing.assert_array_equal(read(opened), expected)
        # It can be read twice, and decoded after that.
        np.testing.assert_array_equal(read(opened), expected)
        opened.load()
        assert opened.size == expected.shape[1::-1]
    np.testing.assert_array_equal(read(Image.open(io.BytesIO(data))), expected)
    assert np.ptp(expected) > 40


@pytest.mark.parametrize("name", OTHERS)
def test_a_decoded_file_is_the_file(tmp_path, name):
    (tmp_path / "x").write_bytes(OTHERS[name])
    with Image.open(tmp_path / "x") as opened:
        opened.load()
    np.testing.assert_array_equal(read(opened), read(tmp_path / "x"))


@pytest.mark.parametrize("name", TOLD_BY_THE_FILE)
def test_a_decoded_file_that_is_another_image_then_is_refused(name):
    opened = Image.open(io.BytesIO(TOLD_BY_THE_FILE[name]))
    opened.load()
    with pytest.raises(UserError, match="give the path of the file"):
        read(opened)


def test_black_is_black_in_16_bits_where_0_is_white(tmp_path):
    (tmp_path / "x.tif").write_bytes(tiff((np.array([[65535, 0]], np.uint16), {262: [0]})))
    for image in (tmp_path / "x.tif", Image.open(tmp_path / "x.tif")):
        assert read(image).tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_changed_pixels_and_later_pages_are_predicted_as_they_are():
    changed = Image.open(io.BytesIO(tiff((RGB, {}))))
    changed.paste((1, 2, 3), (0, 0, 16, 24))
    assert (read(changed) == (1, 2, 3)).all()
    pages = Image.open(io.BytesIO(tiff((RGB, {}), (255 - RGB, {}))))
    pages.seek(1)
    np.testing.assert_array_equal(read(pages), 255 - RGB)
    pages.seek(0)
    np.testing.assert_array_equal(read(pages), RGB)


def test_what_the_file_refuses_the_opened_file_refuses():
    data = tiff((np.full((24, 16), -1, np.int8), {339: [2]}))
    with pytest.raises(DataError, match="signed integers"):
        read(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_a_closed_file_is_named(tmp_path, form):
    (tmp_path / "x").write_bytes(encoded(RGB, form))
    with Image.open(tmp_path / "x") as opened:
        pass
    with pytest.raises(UserError, match="an image of mode RGB and size 16×24 cannot be read"):
        read(opened)
