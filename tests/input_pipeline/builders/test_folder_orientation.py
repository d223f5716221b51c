"""Labels with orientation tags: they lie on their images as a viewer shows both, or are refused."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from danet_jax import input_pipeline
from danet_jax.input_pipeline.images import conversion
from tests.input_pipeline.conftest import write_camvid
from tests.input_pipeline.folder import (
    HEIGHT,
    WIDTH,
    assert_stored,
    draw_image,
    draw_label,
    open_split,
    prepare,
    refused,
    save,
    survey_of,
    write_classes,
    write_folder,
)

ORIENTATION = 0x0112
# What makes of an upright image the stored one.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
COLORS = ((128, 64, 128), (0, 128, 0), (0, 0, 200))


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "mine")


def put(source, kind, pixels, extension=".png", orientation=1, *, tag=None):
    """Replaces an image or a label: stored as the orientation says, and tagged so."""
    (source / kind / "train/photo_1.png").unlink(missing_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if orientation != 1:
        image = image.transpose(TURNS[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = tag or orientation
    file = source / kind / f"train/photo_1{extension}"
    return save(file, image, exif=exif, **({"lossless": True} if extension == ".webp" else {}))


@pytest.mark.parametrize("of_image", [".png", ".tif"])
@pytest.mark.parametrize("of_label", [".png", ".tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_the_same_tag_turns_both(source, of_image, of_label, orientation):
    file = put(source, "images", draw_image(1), of_image, orientation)
    put(source, "labels", draw_label(1), of_label, orientation)
    prepare(source)
    assert_stored(source)
    np.testing.assert_array_equal(conversion.read_image(file)[0], draw_image(1))
    note = "turned upright by its EXIF orientation, as its label is."
    expected = [f"1 image (images/train/photo_1.png): {note}"] if of_image == ".png" else []
    assert survey_of(source).warnings == expected


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_label_on_its_side_is_turned(source, extension, orientation):
    """It has the size of its image only then."""
    put(source, "labels", draw_label(1), extension, orientation)
    prepare(source)
    assert_stored(source)
    assert survey_of(source).warnings == []


@pytest.mark.parametrize("kind", ["palette", "16 bits", "colours", "1 bit", "floats"])
def test_labels_of_all_kinds_are_turned(source, kind):
    label = draw_label(1)
    extension = {"floats": ".tif", "colours": ".webp"}.get(kind, ".png")
    if kind == "palette":
        label = Image.fromarray(label).copy()
        label.putpalette([value for color in COLORS for value in color] + [7] * 759)
    elif kind == "16 bits":
        label = Image.fromarray(label.astype(np.uint16))
    elif kind == "floats":
        label = Image.fromarray(label.astype(np.float32))
    elif kind == "1 bit":
        label = Image.fromarray(label == 1)
    else:
        colors = np.array([*COLORS, (9, 9, 9)], np.uint8)
        label = Image.fromarray(colors[np.minimum(label, 3)])
        classes = [{"name": str(id), "color": list(color)} for id, color in enumerate(COLORS)]
        write_classes(source, classes, ignore=[255, [9, 9, 9]])
    put(source, "labels", label, extension, 6)
    prepare(source)
    stored = open_split(source)[1]["label"]
    expected = draw_label(1)
    np.testing.assert_array_equal(stored, expected == 1 if kind == "1 bit" else expected)


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize(
    ("of_image", "of_label"), [(1, 2), (1, 3), (1, 4), (3, 2), (3, 4), (6, 8), (8, 6), (5, 6)]
)
def test_other_tags_of_the_same_size_are_refused(source, extension, of_image, of_label):
    put(source, "images", draw_image(1), ".jpg", of_image)
    put(source, "labels", draw_label(1), extension, of_label)
    said = refused(source)
    assert f"images/train/photo_1.jpg: viewers turn it by its orientation tag, {of_image} (" in said
    assert f"and its label by another, {of_label}. If the label lies on the image as view" in said
    assert "1 problem in" in said


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_a_tag_that_takes_the_label_off_its_image_is_refused(source, extension):
    put(source, "labels", draw_label(1), extension, tag=6)
    assert "its orientation tag, 1 (1 is upright), and its label by another, 6" in refused(source)


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_squares_do_not_tell(tmp_path, extension):
    source = write_folder(tmp_path / "mine")
    side = min(HEIGHT, WIDTH)
    put(source, "images", draw_image(1)[:side, :side])
    put(source, "labels", draw_label(1)[:side, :side], extension, 6)
    assert "and its label by another, 6" in refused(source)


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_the_cure_is_right_where_viewers_are(source, extension):
    image = put(source, "images", draw_image(1), orientation=3)
    label = put(source, "labels", draw_label(1), extension, 4)
    refused(source)
    for file in (image, label):
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
        upright.save(file)
    prepare(source)
    assert_stored(source)


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_the_cure_is_right_where_the_tags_are_wrong(source, extension):
    for of_image, of_label in ((3, 4), (1, 1)):
        put(source, "images", draw_image(1), tag=of_image)
        put(source, "labels", draw_label(1), extension, tag=of_label)
        if of_image == 3:
            refused(source)
    prepare(source)
    assert_stored(source)


def test_a_fixed_data_set_refuses_tags_of_labels(tmp_path):
    source = write_camvid(tmp_path / "CamVid")
    file = source / "trainannot" / "train_00.png"
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    with Image.open(file) as label:
        label.load()
    label.save(file, exif=exif)
    with pytest.raises(input_pipeline.DataError, match=r"train_00\.png: an orientation tag, 3, by"):
        input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=source)
