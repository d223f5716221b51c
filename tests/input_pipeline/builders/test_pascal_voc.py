import numpy as np
import pytest
import scipy.io
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import pascal_voc
from tests.input_pipeline.pascal_voc import (
    NAMES,
    SBD_NAMES,
    SIZE,
    draw_ids,
    write_image,
    write_label,
    write_mat,
    write_sbd,
    write_voc,
)

# VOClabelcolormap.m: the first, the last, and that of borders.
PALETTE = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128)}


@pytest.fixture
def source(tmp_path):
    return write_voc(tmp_path / "VOCdevkit" / "VOC2012")


def prepare(source, tmp_path):
    return input_pipeline.prepare("pascal_voc", data_dir=tmp_path / "data", source=source)


def open_split(split, tmp_path):
    return input_pipeline.open_split("pascal_voc", split, data_dir=tmp_path / "data")


def ids_of(split):
    return [split.id(index) for index in range(len(split))]


def test_ids_names_and_colors():
    assert {id: id for id in (*range(21), 255)} == pascal_voc.ID_MAP
    labels = input_pipeline.labels_of("pascal_voc", data_dir="data")
    assert labels.num_classes == 21
    assert labels.raw_ids == tuple(range(21))
    assert labels.names[:4] == ("background", "aeroplane", "bicycle", "bird")
    assert labels.names[15:] == ("person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
    for id, color in PALETTE.items():
        assert labels.colors[id] == color
    # trainaug has 10582 images.
    counts = pascal_voc.PascalVoc.counts
    assert counts["train"] + counts["sbd"] == 10582
    assert (counts["val"], counts["test"]) == (1449, 1456)


def test_records_are_the_original_files(source, tmp_path):
    assert prepare(source, tmp_path) == {"train": 3, "val": 2, "test": 2}
    for split in ("train", "val"):
        examples = open_split(split, tmp_path)
        assert examples.has_labels
        assert ids_of(examples) == list(NAMES[split])
        for index, name in enumerate(NAMES[split]):
            stored = examples._records[index]["image"]
            assert stored == (source / "JPEGImages" / f"{name}.jpg").read_bytes()
            expected = draw_ids(name, border=True)
            assert {0, 20, 255} <= set(expected.ravel().tolist())
            np.testing.assert_array_equal(examples[index]["label"], expected)


@pytest.mark.parametrize("given", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_source_may_be_a_folder_above(given, source, tmp_path):
    assert prepare(tmp_path / given, tmp_path) == {"train": 3, "val": 2, "test": 2}


def test_test_has_no_labels(source, tmp_path):
    prepare(source, tmp_path)
    examples = open_split("test", tmp_path)
    assert not examples.has_labels
    assert ids_of(examples) == list(NAMES["test"])
    assert (examples[0]["label"] == 255).all()


@pytest.mark.parametrize("without", ["images", "list"])
def test_without_test(without, source, tmp_path):
    if without == "images":
        for name in NAMES["test"]:
            (source / "JPEGImages" / f"{name}.jpg").unlink()
    else:
        (source / "ImageSets/Segmentation/test.txt").unlink()
    assert prepare(source, tmp_path) == {"train": 3, "val": 2}


@pytest.mark.parametrize(
    ("folder", "given"),
    [
        ("VOCdevkit/benchmark_RELEASE/dataset", "VOCdevkit/VOC2012"),
        ("VOCdevkit/benchmark_RELEASE/dataset", "."),
        ("benchmark_RELEASE/dataset", "VOCdevkit"),
        ("VOCdevkit/VOC2012/SBD/dataset", "VOCdevkit/VOC2012"),
        ("VOCdevkit/VOC2012/SBD/dataset", "VOCdevkit"),
        ("VOCdevkit/VOCaug/dataset", "VOCdevkit"),
        ("VOCdevkit/dataset", "VOCdevkit/VOC2012"),
    ],
)
def test_trainaug_is_train_and_sbd_without_val(folder, given, source, tmp_path):
    sbd = write_sbd(tmp_path / folder)
    expected = {"train": 3, "val": 2, "test": 2, "sbd": 2}
    assert prepare(tmp_path / given, tmp_path) == expected
    examples = open_split("sbd", tmp_path)
    assert ids_of(examples) == ["2008_000002", "2008_000003"]
    for index, name in enumerate(ids_of(examples)):
        stored = examples._records[index]["image"]
        assert stored == (sbd / "img" / f"{name}.jpg").read_bytes()
        np.testing.assert_array_equal(examples[index]["label"], draw_ids(name, border=False))
    everything = open_split("train+sbd", tmp_path)
    assert ids_of(everything) == [*NAMES["train"], "2008_000002", "2008_000003"]
    assert not set(ids_of(everything)) & set(NAMES["val"])
    # Of what both label, VOC's labels count.
    np.testing.assert_array_equal(everything[0]["label"], draw_ids("2007_000032", border=True))


def test_sbd_converted_to_images(source, tmp_path):
    for name in {*NAMES["train"], *NAMES["val"], *SBD_NAMES["train"], *SBD_NAMES["val"]}:
        write_image(source / "JPEGImages" / f"{name}.jpg")
        file = source / "SegmentationClassAug" / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(draw_ids(name, border=False)).save(file)
    assert prepare(source, tmp_path)["sbd"] == 2
    examples = open_split("sbd", tmp_path)
    assert ids_of(examples) == ["2008_000002", "2008_000003"]
    expected = draw_ids("2008_000003", border=False)
    np.testing.assert_array_equal(examples[1]["label"], expected)


def damage_missing_label(source):
    (source / "SegmentationClass/2007_000039.png").unlink()


def damage_rgb(source):
    file = source / "SegmentationClass/2007_000039.png"
    Image.open(file).convert("RGB").save(file)


def damage_grey(source):
    file = source / "SegmentationClass/2007_000039.png"
    ids = np.zeros(SIZE, np.uint8)
    ids[4:20, 4:20] = 255
    # Pillow's brightness of boat is rounded up.
    ids[6:18, 6:18] = 4
    write_label(file, ids)
    Image.open(file).convert("L").save(file)


def damage_id(source):
    write_label(source / "SegmentationClass/2007_000033.png", np.full(SIZE, 21, np.uint8))


def damage_listed_twice(source):
    listing = source / "ImageSets/Segmentation/val.txt"
    listing.write_text("2007_000033\n2007_000042\n2007_000033\n")


def damage_no_list(source):
    (source / "ImageSets/Segmentation/train.txt").unlink()


def damage_no_images(source):
    (source / "JPEGImages").rename(source / "Images")


def damage_missing_test_image(source):
    (source / "JPEGImages/2008_000011.jpg").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_missing_label, "SegmentationClass/2007_000039.png: missing"),
        (damage_rgb, "2007_000039.png: mode RGB; labels are one 8-bit channel"),
        (damage_rgb, "is painted in colours, as palette images are that were converted to RGB"),
        (damage_grey, "2007_000039.png: label ids 220; known are 0-20, 255"),
        (damage_grey, "a palette image was converted to grey"),
        (damage_id, "2007_000033.png: label ids 21; known are 0-20, 255"),
        (damage_listed_twice, "ImageSets/Segmentation/val.txt: 2007_000033 is listed twice"),
        (damage_no_list, "ImageSets/Segmentation/train.txt: missing; the source is VOCdevkit/VOC"),
        (damage_no_images, "JPEGImages: missing; the source is VOCdevkit/VOC2012"),
        (damage_missing_test_image, "JPEGImages/2008_000011.jpg: missing"),
    ],
)
def test_damage_is_found(damage, says, source, tmp_path):
    damage(source)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path)
    assert says in str(caught.value)
    assert "pascal_voc: 1 problem in" in str(caught.value)
    assert not list((tmp_path / "data").glob("*/[!.]*"))


def damage_torn_mat(sbd):
    file = sbd / "cls/2008_000002.mat"
    file.write_bytes(file.read_bytes()[:-40])


def damage_missing_mat(sbd):
    (sbd / "cls/2008_000003.mat").unlink()


def damage_other_mat(sbd):
    ids = draw_ids("2008_000003", border=False)
    scipy.io.savemat(sbd / "cls/2008_000003.mat", {"GTinst": {"Segmentation": ids}})


def damage_no_field(sbd):
    scipy.io.savemat(sbd / "cls/2008_000003.mat", {"GTcls": {"Boundaries": np.eye(2)}})


def damage_fractions(sbd):
    content = {"Segmentation": np.full(SIZE, 0.5)}
    scipy.io.savemat(sbd / "cls/2008_000003.mat", {"GTcls": content})


def damage_sbd_id(sbd):
    write_mat(sbd / "cls/2008_000003.mat", np.full(SIZE, 21, np.uint8))


def damage_sbd_list(sbd):
    (sbd / "val.txt").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_torn_mat, "../SBD/dataset/cls/2008_000002.mat: does not decode"),
        (damage_missing_mat, "../SBD/dataset/cls/2008_000003.mat: missing"),
        (damage_other_mat, "2008_000003.mat: holds no map GTcls.Segmentation of ids"),
        (damage_no_field, "2008_000003.mat: holds no map GTcls.Segmentation of ids"),
        (damage_fractions, "2008_000003.mat: GTcls.Segmentation holds other values than ids"),
        (damage_sbd_id, "2008_000003.mat: label ids 21; known are 0-20, 255"),
        (damage_sbd_list, "SBD/dataset/val.txt: missing, a list of SBD"),
    ],
)
def test_damage_in_sbd_is_found(damage, says, source, tmp_path):
    damage(write_sbd(tmp_path / "VOCdevkit" / "SBD" / "dataset"))
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path)
    assert says in str(caught.value)
    assert "pascal_voc: 1 problem in" in str(caught.value)
