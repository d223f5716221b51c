"""Labels in formats that change their numbers, or whose numbers programs read differently."""

import io

import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.input_pipeline.images import file_formats
from tests.input_pipeline.conftest import write_camvid
from tests.input_pipeline.folder import (
    HEIGHT,
    WIDTH,
    assert_stored,
    draw_label,
    open_split,
    pairs,
    prepare,
    refused,
    save,
    survey_of,
    write_classes,
    write_folder,
)
from tests.input_pipeline.images.test_formats import tiff

PHOTOMETRIC = 262
COLORS = {0: (128, 64, 128), 1: (0, 128, 0), 2: (0, 0, 200), 255: (0, 0, 0)}
PAINTED = [
    {"name": name, "color": list(COLORS[id])} for id, name in enumerate(("road", "tree", "car"))
]


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "mine")


def paint(label):
    table = np.zeros((256, 3), np.uint8)
    table[list(COLORS)] = list(COLORS.values())
    return table[label]


def encoded(pixels, form, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


# --- TIFFs in which 0 is white -------------------------------------------------------------------


def without_photometric(label):
    # A private tag in its place; the entries are looked up one by one.
    data = tiff((label, {PHOTOMETRIC: [1]}))
    entry = PHOTOMETRIC.to_bytes(2, "little") + b"\x03\0\x01\0\0\0"
    assert data.count(entry) == 1
    return data.replace(entry, (263).to_bytes(2, "little") + entry[2:])


def fax(label):
    return encoded(label == 1, "TIFF", compression="group4", tiffinfo={PHOTOMETRIC: 0})


WHITE_ZERO = {
    "8 bits": lambda label: tiff((label, {PHOTOMETRIC: [0]})),
    "8 bits, not said": without_photometric,
    "1 bit": lambda label: encoded(label == 1, "TIFF", tiffinfo={PHOTOMETRIC: 0}),
    "fax": fax,
}


@pytest.mark.parametrize("kind", WHITE_ZERO)
def test_labels_in_which_0_is_white_are_refused(source, kind):
    (source / "labels/train/photo_1.png").unlink()
    (source / "labels/train/photo_1.tif").write_bytes(WHITE_ZERO[kind](draw_label(1)))
    said = refused(source)
    assert "1 problem in" in said
    assert "labels/train/photo_1.tif: a TIFF in which 0 is white" in said
    assert "Save it as PNG" in said
    assert "tifffile.imread(FILE)" in said


def test_the_remedy_for_labels_in_which_0_is_white(source):
    """Saved by Pillow, a label is what it looks like."""
    path = source / "labels/train/photo_1.png"
    path.write_bytes(WHITE_ZERO["8 bits"](255 - draw_label(1)))
    # TIFF by its content, which its name does not change.
    assert "labels/train/photo_1.png: a TIFF in which 0 is white" in refused(source)
    with Image.open(path) as image:
        image.load()
    image.save(path, "PNG")
    prepare(source)
    assert_stored(source)


def test_a_fixed_data_set_refuses_labels_in_which_0_is_white(tmp_path):
    source = write_camvid(tmp_path / "CamVid")
    label = source / "trainannot" / "train_00.png"
    with Image.open(label) as image:
        label.write_bytes(WHITE_ZERO["8 bits"](np.asarray(image)))
    with pytest.raises(
        input_pipeline.DataError, match=r"train_00\.png: a TIFF in which 0 is white"
    ):
        input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=source)


@pytest.mark.parametrize(("dtype", "photometric"), [(np.uint8, 1), (np.uint16, 0), (np.uint16, 1)])
def test_ids_that_all_programs_read_alike_stay(source, dtype, photometric):
    (source / "labels/train/photo_1.png").unlink()
    label = draw_label(1).astype(dtype)
    (source / "labels/train/photo_1.tif").write_bytes(tiff((label, {PHOTOMETRIC: [photometric]})))
    prepare(source)
    assert_stored(source)


# --- lossy compression ---------------------------------------------------------------------------

JPEG = ("JPEG", {"quality": 60})
LOSSY = {
    "jpg": (JPEG, "a JPEG", "is compressed as JPEG"),
    "png": (JPEG, "a JPEG", "is compressed as JPEG"),
    "webp": (("WEBP", {"quality": 40}), "a lossy WebP", "is compressed as lossy WebP"),
    "bmp": (("WEBP", {"quality": 40}), "a lossy WebP", "is compressed as lossy WebP"),
    "tif": (
        ("TIFF", {"compression": "jpeg", "quality": 60}),
        "a TIFF compressed as JPEG",
        "is compressed as JPEG",
    ),
}


@pytest.mark.parametrize("extension", LOSSY)
def test_painted_labels_that_lossy_compression_changed_are_refused(source, extension):
    (form, options), _, compressed = LOSSY[extension]
    write_classes(source, PAINTED)
    (source / "labels/train/photo_1.png").unlink()
    name = f"labels/train/photo_1.{extension}"
    save(source / name, paint(draw_label(1)), format=form, **options)
    said = refused(source)
    assert f"1 label ({name}) {compressed}, which changes ids" in said
    assert "save labels as PNG" in said
    assert said.count(name) == 2


@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
def test_ids_that_jpeg_changed_are_refused(source, extension):
    (form, options), kind, compressed = LOSSY[extension]
    (source / "labels/train/photo_1.png").unlink()
    name = f"labels/train/photo_1.{extension}"
    label = np.where(np.indices((HEIGHT, WIDTH)).sum(0) % 3 == 0, 255, 0).astype(np.uint8)
    save(source / name, label, format=form, **options)
    said = refused(source)
    assert f"which no class has, in {kind}" in said
    assert f"1 label ({name}) {compressed}, which changes ids" in said


@pytest.mark.parametrize("extension", ["jpg", "png", "tif"])
def test_known_ids_in_a_jpeg_are_warned_of_whatever_its_name(source, extension):
    (form, options), *_ = LOSSY[extension]
    (source / "labels/train/photo_1.png").unlink()
    name = f"labels/train/photo_1.{extension}"
    save(
        source / name,
        np.full((HEIGHT, WIDTH), 2, np.uint8),
        format=form,
        **{**options, "quality": 95},
    )
    prepare(source)
    assert (open_split(source)[1]["label"] == 2).all()
    (warning,) = survey_of(source).warnings
    assert warning.startswith(f"1 label ({name}) is compressed as JPEG")


def test_a_fixed_data_set_warns_of_jpeg_by_content(tmp_path):
    source = write_camvid(tmp_path / "CamVid")
    label = source / "trainannot" / "train_00.png"
    with Image.open(label) as image:
        flat = np.full_like(np.asarray(image), 3)
    save(label, flat, format="JPEG")
    input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=source)
    warnings = input_pipeline.survey_of("camvid", data_dir=tmp_path / "data").warnings
    assert any(
        w.startswith("1 label (trainannot/train_00.png) is compressed as JPEG") for w in warnings
    )


def test_lossless_labels_are_no_jpegs(source):
    """Neither a lossless WebP nor a PNG that is named .jpg changes anything."""
    write_classes(source, PAINTED, ignore=[[0, 0, 0], 255])
    for split, name, seed in pairs():
        (source / "labels" / split / f"{name}.png").unlink()
        extension, form = (".webp", "WEBP") if split == "train" else (".jpg", "PNG")
        save(
            source / "labels" / split / f"{name}{extension}",
            paint(draw_label(seed)),
            format=form,
            lossless=True,
        )
    prepare(source)
    assert_stored(source)
    assert not [warning for warning in survey_of(source).warnings if "compressed" in warning]


def test_ids_in_a_lossless_webp_are_told_by_what_they_are(source):
    (source / "labels/train/photo_1.png").unlink()
    label = np.repeat(draw_label(1)[..., None], 3, axis=2)
    save(source / "labels/train/photo_1.webp", label, lossless=True)
    said = refused(source)
    assert "JPEG" not in said
    assert "in three equal channels. Save one channel" in said


@pytest.mark.parametrize("options", [{}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}])
@pytest.mark.parametrize("frames", [1, 2])
def test_webp_is_lossy_by_its_pixels(options, frames):
    """Also with metadata, transparency or several frames, each of which has chunks of its own."""
    pixels = paint(draw_label(0))
    more = {"save_all": True, "append_images": [Image.fromarray(pixels[::-1])] * (frames - 1)}
    for lossless, name in ((True, ""), (False, "a lossy WebP")):
        data = encoded(pixels, "WEBP", lossless=lossless, **options, **more)
        assert file_formats.name_lossy(data) == name
    transparent = np.dstack([pixels, draw_label(0)])
    assert file_formats.name_lossy(encoded(transparent, "WEBP", quality=50)) == "a lossy WebP"
    assert file_formats.name_lossy(encoded(transparent, "WEBP", lossless=True)) == ""


@pytest.mark.parametrize("length", [0, 3, 11, 12, 15, 20])
def test_torn_beginnings_are_nothing_lossy(length):
    data = encoded(paint(draw_label(0)), "WEBP", lossless=True)[:length]
    assert file_formats.name_lossy(data) == ""
    assert file_formats.name_lossy(b"II*\0"[:length]) == ""
