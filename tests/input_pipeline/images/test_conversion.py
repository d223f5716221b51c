import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images import codec, conversion

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 8, 7], [100, 150, 200], [0, 0, 0]]])
RGB = RGB.astype(np.uint8)
ORIENTATION = 0x0112


def save(path, array, mode=None, **options):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)
    return path


def encode(array):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def test_rgb_is_read_as_it_is(tmp_path):
    for extension in (".png", ".tif", ".bmp", ".TIFF"):
        image, notes = conversion.read_image(save(tmp_path / f"a{extension}", RGB))
        np.testing.assert_array_equal(image, RGB)
        assert notes == ()


def test_grey_is_repeated(tmp_path):
    grey = np.array([[0, 77], [128, 255]], np.uint8)
    image, notes = conversion.read_image(save(tmp_path / "a.png", grey))
    np.testing.assert_array_equal(image, np.stack([grey] * 3, axis=-1))
    assert notes == ()


def test_palette_becomes_its_colours(tmp_path):
    palette = Image.fromarray(np.array([[2, 0], [1, 1]], np.uint8), "L").copy()
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert palette.mode == "P"
    image, notes = conversion.read_image(save(tmp_path / "a.png", palette))
    assert image.tolist() == [[[70, 80, 90], [10, 20, 30]], [[40, 50, 60], [40, 50, 60]]]
    assert notes == ()


def test_opaque_alpha_is_dropped(tmp_path):
    rgba = np.dstack([RGB, np.full((2, 3), 255, np.uint8)])
    image, notes = conversion.read_image(save(tmp_path / "a.png", rgba))
    np.testing.assert_array_equal(image, RGB)
    assert notes == ()


def test_transparency_is_drawn_over_black_and_noted(tmp_path):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 51], [200, 100, 50, 0]]], np.uint8)
    image, notes = conversion.read_image(save(tmp_path / "a.png", rgba))
    assert image.tolist() == [[[200, 100, 50], [40, 20, 10], [0, 0, 0]]]
    assert notes == ("transparent parts are drawn over black",)


def test_grey_with_alpha(tmp_path):
    image, notes = conversion.read_image(
        save(tmp_path / "a.png", Image.fromarray(np.array([[[80, 255], [80, 0]]], np.uint8), "LA"))
    )
    assert image.tolist() == [[[80, 80, 80], [0, 0, 0]]]
    assert len(notes) == 1


def test_transparent_palette_entry(tmp_path):
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    palette.save(tmp_path / "a.png", transparency=1)
    image, notes = conversion.read_image(tmp_path / "a.png")
    assert image.tolist() == [[[10, 20, 30], [0, 0, 0]]]
    assert len(notes) == 1


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_16_bit_takes_the_high_byte(tmp_path, extension):
    deep = np.array([[0, 255, 256], [0x1234, 0xFF00, 0xFFFF]], np.uint16)
    image, notes = conversion.read_image(save(tmp_path / f"a{extension}", deep))
    np.testing.assert_array_equal(image[..., 0], [[0, 0, 1], [0x12, 0xFF, 0xFF]])
    assert (image == image[..., :1]).all()
    assert notes == ("16-bit grey: the high byte is used",)


def test_16_bit_big_endian_tiff(tmp_path):
    deep = Image.fromarray(np.array([[0x1234, 0xFE01]], ">u2"))
    image, _ = conversion.read_image(save(tmp_path / "a.tif", deep))
    assert image[0, :, 0].tolist() == [0x12, 0xFE]


def test_16_bit_rgb_is_not_passed_off_as_8_bit(tmp_path):
    deep = np.array([[[0x1234, 0xFFFF, 0x0080]]], np.uint16)  # BGR
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    image, notes = conversion.read_image(tmp_path / "a.png")
    assert image.tolist() == [[[0x00, 0xFF, 0x12]]]
    assert notes == ("16-bit colour: the high byte is used",)


def test_cmyk_is_converted_and_noted(tmp_path):
    image, notes = conversion.read_image(
        save(tmp_path / "a.jpg", np.full((8, 8, 3), (250, 120, 30), np.uint8), "CMYK", quality=100)
    )
    np.testing.assert_allclose(image[4, 4], (250, 120, 30), atol=4)
    assert notes == ("converted from CMYK to RGB",)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(tmp_path, dtype):
    path = save(tmp_path / "a.tif", np.zeros((4, 4), dtype))
    with pytest.raises(
        DataError, match=r"a\.tif: pixels are .* unknown range; save it as 8-bit RGB"
    ):
        conversion.read_image(path)


@pytest.mark.parametrize("side", [13_350, 13_400, 2**31 - 1])
def test_a_small_file_that_claims_to_be_enormous_is_refused_by_its_header(tmp_path, side):
    # The first is below Pillow's own limit.
    header = b"IHDR" + struct.pack(">II", side, side) + encode(RGB)[24:29]
    data = encode(RGB)[:12] + header + struct.pack(">I", zlib.crc32(header)) + encode(RGB)[33:]
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png: it has more than 178 million pixels, .* parts$"):
        conversion.read_image(tmp_path / "a.png")


def test_exif_orientation_is_applied(tmp_path):
    # What the camera saw and how each of EXIF's eight values stores it.
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    for orientation, array in stored.items():
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        path = save(tmp_path / f"{orientation}.png", np.ascontiguousarray(array), exif=exif)
        image, notes = conversion.read_image(path)
        np.testing.assert_array_equal(image, upright)
        assert notes == ()
        # Labels lie on the stored grid: the fast path must not turn the image.
        np.testing.assert_array_equal(codec.decode_image(path.read_bytes()), array)


@pytest.mark.parametrize("extension", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 9])
def test_sizes_by_headers_are_those_of_the_images(tmp_path, extension, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / f"a{extension}", np.zeros((4, 7, 3), np.uint8), exif=exif)
    (size,) = input_pipeline.sizes_of_files([path])
    assert size == conversion.read_image(path)[0].shape[:2]


def test_several_frames_are_noted(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    image, notes = conversion.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image, RGB)
    assert notes == ("only the first of 2 frames is used",)


@pytest.mark.parametrize("extension", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_torn_files_are_named(tmp_path, extension):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"good{extension}", noise)
    data = path.read_bytes()
    for length in (1, 9, 40, len(data) // 2):
        torn = tmp_path / f"torn{extension}"
        torn.write_bytes(data[:length])
        with pytest.raises(DataError, match="torn"):
            conversion.read_image(torn)


def test_files_that_are_no_images_are_named(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    for name, what in [
        ("empty", "empty file"),
        ("text", "not a readable image"),
        ("no", "is not there"),
    ]:
        with pytest.raises(DataError, match=f"{name}.png: {what}"):
            conversion.read_image(tmp_path / f"{name}.png")


def test_decode():
    np.testing.assert_array_equal(codec.decode_image(encode(RGB)), RGB)
    label = np.array([[0, 5, 255]], np.uint8)
    np.testing.assert_array_equal(codec.decode_label(encode(label)), label)
    for data in (b"", b"no image", encode(RGB)[:30]):
        with pytest.raises(DataError, match="does not decode"):
            codec.decode_image(data)
    with pytest.raises(DataError, match="not one 8-bit channel"):
        codec.decode_label(encode(RGB))
    with pytest.raises(DataError, match="not one 8-bit channel"):
        codec.decode_label(encode(np.zeros((2, 2), np.uint16)))
