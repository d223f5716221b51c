"""BMP files of few bits, whose pixels are told by the header and not by the colours of the palette.

Pillow takes a palette of black and white for 1 bit, and one of the first greys for 8 bits.
"""

import struct

import cv2
import numpy as np
import pytest

from danet_jax.input_pipeline.images import conversion
from tests.input_pipeline.folder import (
    HEIGHT,
    WIDTH,
    assert_stored,
    draw_image,
    draw_label,
    open_split,
    prepare,
    write_folder,
)

BLACK_AND_WHITE = [(0, 0, 0), (255, 255, 255)]
PALETTES = {
    "black and white": BLACK_AND_WHITE,
    "white and black": BLACK_AND_WHITE[::-1],
    "black": [(0, 0, 0)],
    "greys": [(value, value, value) for value in range(16)],
    "all greys": [(value, value, value) for value in range(256)],
    "colours": [(10, 20, 30), (200, 0, 7), (0, 99, 0)],
}


def bmp(indices, palette, bits, *, of_os2=False, top_down=False, runs=None):
    """A BMP of palette indices; `runs` are its rows as run lengths."""
    height, width = indices.shape
    rows = []
    for row in indices if top_down else indices[::-1]:
        each = np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
        raw = np.packbits(each.ravel()).tobytes()
        rows.append(raw + bytes(-len(raw) % 4))
    body = b"".join(rows) if runs is None else runs
    colors = b"".join(bytes(color[::-1]) + b"\0" * (not of_os2) for color in palette)
    if of_os2:
        header = struct.pack("<IHHHH", 12, width, height, 1, bits)
        colors = colors.ljust(3 << bits, b"\0")
    else:
        compression = 0 if runs is None else {8: 1, 4: 2}[bits]
        signed = -height if top_down else height
        header = struct.pack("<IiiHHII", 40, width, signed, 1, bits, compression, len(body))
        header += struct.pack("<iiII", 0, 0, len(palette), 0)
    offset = 14 + len(header) + len(colors)
    head = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset)
    return head + header + colors + body


def in_colour(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


@pytest.mark.parametrize("form", [{}, {"top_down": True}, {"of_os2": True}])
@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("name", PALETTES)
def test_pixels_are_those_of_the_palette(name, bits, form):
    palette = PALETTES[name][: 1 << bits]
    indices = np.random.default_rng(0).integers(0, len(palette), (5, 19))
    data = bmp(indices, palette, bits, **form)
    image, notes = conversion.convert_image(data)
    np.testing.assert_array_equal(image, np.array(palette)[indices])
    np.testing.assert_array_equal(image, in_colour(data))
    assert notes == ()


@pytest.mark.parametrize("name", ["black and white", "greys", "colours"])
@pytest.mark.parametrize(
    ("bits", "runs"),
    [
        (8, bytes([4, 1, 0, 0, 0, 3, 0, 1, 1, 0, 1, 0, 0, 0, 2, 1, 2, 0, 0, 1])),
        (4, bytes([4, 0x11, 0, 0, 0, 3, 0x01, 0x10, 1, 0, 0, 0, 2, 0x11, 2, 0, 0, 1])),
    ],
)
def test_run_lengths(name, bits, runs):
    indices = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    data = bmp(indices, PALETTES[name], bits, runs=runs)
    image, _ = conversion.convert_image(data)
    np.testing.assert_array_equal(image, np.array(PALETTES[name])[indices])
    np.testing.assert_array_equal(image, in_colour(data))


def direct(bits, pixels, masks=()):
    """A BMP of colours, one row."""
    body = pixels.tobytes() + bytes(-pixels.nbytes % 4)
    size, compression = 56 if len(masks) > 3 else 40, 3 if masks else 0
    header = struct.pack("<IiiHHII", size, len(pixels), 1, 1, bits, compression, len(body))
    header += bytes(16) + b"".join(struct.pack("<I", mask) for mask in masks)
    offset = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + body


@pytest.mark.parametrize(
    ("data", "colors"),
    [
        (direct(16, np.array([0x7FFF, 31 << 10], "<u2")), [(255, 255, 255), (255, 0, 0)]),
        (
            direct(16, np.array([0xFFFF, 63 << 5], "<u2"), (0xF800, 0x7E0, 0x1F)),
            [(255, 255, 255), (0, 255, 0)],
        ),
        # The fourth byte is no transparency unless the header says so.
        (direct(32, np.array([0x010203, 0xFF040506], "<u4")), [(1, 2, 3), (4, 5, 6)]),
    ],
    ids=["555", "565", "32 bits"],
)
def test_colours_of_16_and_32_bits(data, colors):
    image, notes = conversion.convert_image(data)
    assert image.tolist() == [[list(color) for color in colors]]
    # OpenCV leaves out the lowest bits of 5 or 6.
    np.testing.assert_allclose(image, in_colour(data), atol=7)
    assert notes == ()


def test_transparency_of_32_bits():
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    data = direct(32, np.array([0xFF010203, 0x00040506], "<u4"), masks)
    image, notes = conversion.convert_image(data)
    assert image.tolist() == [[[1, 2, 3], [0, 0, 0]]]
    assert notes == ("transparent parts are drawn over black",)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", ["black and white", "greys"])
def test_labels_hold_the_indices(tmp_path, name, bits):
    source = write_folder(tmp_path / "mine", change=lambda label: label == 1)
    (source / "classes.txt").write_text("background\ntree\n")
    for file in list(source.glob("labels/*/*.png")):
        label = (draw_label(int(file.stem[-1]) + 4 * (file.parent.name == "val")) == 1).astype(int)
        file.with_suffix(".bmp").write_bytes(bmp(label, PALETTES[name], bits))
        file.unlink()
    prepare(source)
    assert_stored(source, lambda label: (label == 1).astype(np.uint8))


@pytest.mark.parametrize("storage", ["original", "fast"])
def test_images_are_stored_as_they_look(tmp_path, storage):
    source = write_folder(tmp_path / "mine")
    bright = draw_image(1)[..., 0] > 127
    (source / "images/train/photo_1.png").unlink()
    (source / "images/train/photo_1.bmp").write_bytes(bmp(bright, BLACK_AND_WHITE, 8))
    prepare(source, storage=storage)
    example = open_split(source)[1]
    expected = np.broadcast_to(255 * bright[..., None], (HEIGHT, WIDTH, 3))
    np.testing.assert_array_equal(example["image"], expected)
    np.testing.assert_array_equal(example["label"], draw_label(1))
