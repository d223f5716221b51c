import cv2
import numpy as np
import pytest
from PIL import Image

from danet_jax.input_pipeline.images import codec, conversion
from tests.input_pipeline.folder import (
    HEIGHT,
    WIDTH,
    draw_image,
    draw_label,
    open_split,
    prepare,
    refused,
    save,
    survey_of,
    write_folder,
)

ORIENTATION = 0x0112


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "mine")


def replace_image(source, image, extension=".png", **options):
    (source / "images/train/photo_1.png").unlink()
    return save(source / f"images/train/photo_1{extension}", image, **options)


def prepared_image(source):
    """What is stored of the replaced image: its bytes, its pixels, and the warnings."""
    prepare(source)
    split = open_split(source)
    example = split[1]
    np.testing.assert_array_equal(example["label"], draw_label(1))
    return split._records[1]["image"], example["image"], survey_of(source).warnings


@pytest.mark.parametrize(
    ("mode", "extension"),
    [("RGB", ".jpg"), ("L", ".jpg"), ("L", ".png"), ("RGB", ".tif"), ("L", ".tif")],
)
def test_files_that_decode_to_the_same_are_kept(source, mode, extension):
    file = replace_image(source, Image.fromarray(draw_image(1)).convert(mode), extension)
    data, pixels, warnings = prepared_image(source)
    assert data == file.read_bytes()
    np.testing.assert_array_equal(pixels, codec.decode_image(data))
    if extension != ".jpg":
        np.testing.assert_array_equal(pixels, conversion.read_image(file)[0])
    assert warnings == []


def deep_grey():
    return Image.fromarray(draw_image(1)[..., 0].astype(np.uint16) * 257)


def palette():
    return Image.fromarray(draw_image(1)).quantize(16)


def transparent():
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[:4] = 0
    return Image.fromarray(np.concatenate([draw_image(1), alpha], axis=-1))


def cmyk():
    return Image.fromarray(draw_image(1)).convert("CMYK")


@pytest.mark.parametrize(
    ("make", "extension", "note"),
    [
        (deep_grey, ".png", "16-bit grey: the high byte is used"),
        (deep_grey, ".tif", "16-bit grey: the high byte is used"),
        (transparent, ".png", "transparent parts are drawn over black"),
        (cmyk, ".jpg", "converted from CMYK to RGB"),
        (cmyk, ".tif", "converted from CMYK to RGB"),
        (palette, ".png", None),
    ],
)
def test_others_are_converted_as_for_prediction(source, make, extension, note):
    file = replace_image(source, make(), extension)
    data, pixels, warnings = prepared_image(source)
    np.testing.assert_array_equal(pixels, conversion.read_image(file)[0])
    if data != file.read_bytes():
        assert data[:4] == b"\x89PNG"
    shown = f"1 image (images/train/photo_1{extension}): {note}."
    assert warnings == ([shown] if note else [])


def test_16_bit_colour_takes_the_high_byte(source):
    file = source / "images/train/photo_1.png"
    deep = draw_image(1).astype(np.uint16) * 256 + 255
    cv2.imwrite(str(file), deep[..., ::-1])
    _, pixels, warnings = prepared_image(source)
    np.testing.assert_array_equal(pixels, draw_image(1))
    assert warnings == ["1 image (images/train/photo_1.png): 16-bit colour: the high byte is used."]


def test_unknown_ranges_and_pages_are_refused(source):
    replace_image(source, Image.new("F", (WIDTH, HEIGHT)), ".tif")
    said = refused(source)
    assert "photo_1.tif: pixels are floating-point numbers of unknown range; save it as" in said
    save(
        source / "images/train/photo_1.tif",
        Image.fromarray(draw_image(1)),
        save_all=True,
        append_images=[Image.fromarray(draw_image(2))],
    )
    assert "photo_1.tif: 2 pages; save only the page that is meant" in refused(source)


def turned(orientation, extension, source, size=(WIDTH, HEIGHT)):
    """A photograph of a size as it is stored, with a note of how to turn it."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    width, height = size
    pixels = draw_image(1).reshape(height, width, 3)
    return replace_image(source, pixels, extension, exif=exif)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_photograph_is_turned_where_its_label_is(source, extension):
    # Stored on its side: 24 wide, 32 high; the label is 32 wide, 24 high.
    file = turned(6, extension, source, (HEIGHT, WIDTH))
    data, pixels, warnings = prepared_image(source)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(pixels, conversion.read_image(file)[0])
    assert data[:4] == b"\x89PNG"
    assert warnings == [
        f"1 image (images/train/photo_1{extension}): turned upright by its EXIF orientation, as "
        "its label is."
    ]


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_photograph_stays_where_its_label_is_of_the_stored_one(source, extension):
    file = turned(6, extension, source)
    data, pixels, warnings = prepared_image(source)
    assert data == file.read_bytes()
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert conversion.read_image(file)[0].shape == (WIDTH, HEIGHT, 3)
    assert warnings == [
        f"1 image (images/train/photo_1{extension}): not turned by its EXIF orientation, as its "
        "label is not; predict turns it."
    ]


def test_a_photograph_without_a_label_is_turned_as_for_prediction(source):
    file = turned(3, ".jpg", source)
    (source / "images/test").mkdir()
    file = file.rename(source / "images/test/new.jpg")
    (source / "labels/train/photo_1.png").unlink()
    prepare(source)
    example = open_split(source, "test")[0]
    np.testing.assert_array_equal(example["image"], conversion.read_image(file)[0])


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_what_the_size_does_not_tell_is_refused(source, orientation):
    turned(orientation, ".jpg", source)
    said = refused(source)
    assert f"photo_1.jpg: its EXIF orientation ({orientation}) turns or mirrors it, and its" in said
    assert "run `mogrify -auto-orient FILE`; if on the stored one, `exiftool -Orient" in said


def test_a_tiff_is_turned_whatever_reads_it(source):
    file = turned(6, ".tif", source, (HEIGHT, WIDTH))
    _, pixels, _ = prepared_image(source)
    np.testing.assert_array_equal(pixels, conversion.read_image(file)[0])
    assert pixels.shape == (HEIGHT, WIDTH, 3)


def test_a_tiff_whose_size_does_not_tell_is_noted(source):
    file = turned(3, ".tif", source)
    _, pixels, warnings = prepared_image(source)
    np.testing.assert_array_equal(pixels, conversion.read_image(file)[0])
    assert "photo_1.tif): turned upright by the orientation in the TIFF; check" in warnings[0]
