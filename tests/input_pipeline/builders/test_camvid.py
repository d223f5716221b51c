import cv2
import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import camvid


def prepare(source, data_dir):
    return input_pipeline.prepare("camvid", data_dir=data_dir, source=source)


def test_records_are_the_original_files(source, tmp_path):
    assert prepare(source, tmp_path / "data") == {"train": 7, "val": 8}
    for split in ("train", "val"):
        examples = input_pipeline.open_split("camvid", split, data_dir=tmp_path / "data")
        for index in range(len(examples)):
            name = f"{split}_{index:02d}"
            example = examples[index]
            assert example["id"] == name
            image = np.asarray(Image.open(source / split / f"{name}.png"))
            np.testing.assert_array_equal(example["image"], image)
            label = np.asarray(Image.open(source / f"{split}annot" / f"{name}.png"))
            np.testing.assert_array_equal(example["label"], np.where(label == 11, 255, label))
            stored = examples._records[index]["image"]
            assert stored == (source / split / f"{name}.png").read_bytes()


def test_palette_labels_are_read_as_indices(source, tmp_path):
    file = source / "trainannot" / "train_00.png"
    ids = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 12
    label = Image.fromarray(ids).copy()
    label.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    assert label.mode == "P"
    label.save(file)
    prepare(source, tmp_path / "data")
    example = input_pipeline.open_split("camvid", "train", data_dir=tmp_path / "data")[0]
    np.testing.assert_array_equal(example["label"], np.where(ids == 11, 255, ids))


def test_test_split_is_taken_where_it_is_listed(source, tmp_path):
    (source / "test.txt").write_text((source / "val.txt").read_text())
    assert prepare(source, tmp_path / "data") == {"train": 7, "val": 8, "test": 8}


def test_labels():
    assert len(camvid.NAMES) == len(camvid.COLORS) == 11
    assert camvid.COLORS[3] == (128, 64, 128)
    assert camvid.ID_MAP[10] == 10
    assert camvid.ID_MAP[11] == 255


def damage_missing_image(source):
    (source / "train" / "train_02.png").unlink()


def damage_missing_label(source):
    (source / "valannot" / "val_01.png").unlink()


def damage_rgb_label(source):
    Image.new("RGB", (32, 24)).save(source / "trainannot" / "train_01.png")


def damage_deep_label(source):
    Image.fromarray(np.zeros((24, 32), np.uint16)).save(source / "trainannot" / "train_01.png")


def damage_label_size(source):
    Image.new("L", (31, 24)).save(source / "trainannot" / "train_01.png")


def damage_label_id(source):
    Image.new("L", (32, 24), 12).save(source / "trainannot" / "train_01.png")


def damage_converted_label(source):
    Image.new("L", (32, 24), 255).save(source / "trainannot" / "train_01.png")


def damage_torn_image(source):
    file = source / "val" / "val_03.png"
    file.write_bytes(file.read_bytes()[:-200])


def damage_text_image(source):
    (source / "val" / "val_03.png").write_text("an error page")


def damage_empty_label(source):
    (source / "valannot" / "val_03.png").write_bytes(b"")


def damage_grey_image(source):
    Image.new("L", (32, 24)).save(source / "train" / "train_01.png")


def damage_deep_image(source):
    cv2.imwrite(str(source / "train" / "train_01.png"), np.zeros((24, 32, 3), np.uint16))


def damage_empty_list(source):
    (source / "val.txt").write_text("\n")


def damage_no_list(source):
    (source / "val.txt").unlink()


def damage_line(source):
    with (source / "train.txt").open("a") as listing:
        listing.write("only_one_path.png\n")


def damage_twice(source):
    listing = source / "train.txt"
    listing.write_text(listing.read_text() + listing.read_text().splitlines()[0])


def assert_not_prepared(data_dir):
    """At most what was in order is there, in a hidden folder."""
    assert not list(data_dir.glob("*/[!.]*"))
    with pytest.raises(DataError, match="is not prepared"):
        input_pipeline.open_split("camvid", "train", data_dir=data_dir)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing_image, "train/train_02.png: missing"),
        (damage_missing_label, "valannot/val_01.png: missing"),
        (damage_rgb_label, "trainannot/train_01.png: mode RGB; labels are one 8-bit channel"),
        (damage_deep_label, "trainannot/train_01.png: mode I;16; labels are one 8-bit channel"),
        (damage_label_size, "trainannot/train_01.png: 31x24, but its image is 32x24"),
        (damage_label_id, "trainannot/train_01.png: label ids 12; known are 0-11"),
        (damage_converted_label, "label ids 255; known are 0-11"),
        (damage_torn_image, "val/val_03.png: does not decode"),
        (damage_text_image, "val/val_03.png: does not decode"),
        (damage_empty_label, "valannot/val_03.png: empty file"),
        (damage_grey_image, "train/train_01.png: mode L; images are 8-bit RGB"),
        (damage_deep_image, "train/train_01.png: 16-bit colour; images are 8-bit RGB"),
        (damage_empty_list, "val.txt: lists no examples"),
        (damage_no_list, "val.txt: missing; the source is the folder CamVid"),
        (damage_line, "train.txt, line 8: not the paths of an image and a label"),
        (damage_twice, "train.txt: train_00 is listed twice"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_is_named_and_nothing_is_left(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "data")
    assert message in str(caught.value)
    assert "camvid: 1 problem in" in str(caught.value)
    assert "it is not prepared" in str(caught.value)
    assert_not_prepared(tmp_path / "data")


def test_all_problems_are_counted_and_five_shown(source, tmp_path):
    for file in (source / "valannot").iterdir():
        file.unlink()
    (tmp_path / "data" / "other").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "data")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("camvid: 8 problems in")
    assert lines[1:6] == [f"  valannot/val_0{index}.png: missing" for index in range(5)]
    assert lines[6] == "  and 3 more"
    assert_not_prepared(tmp_path / "data")
