import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import cityscapes
from tests.input_pipeline.cityscapes import NAMES, write_cityscapes

# https://github.com/mcordts/cityscapesScripts, helpers/labels.py: labelId to trainId.
TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


@pytest.fixture
def source(tmp_path):
    return write_cityscapes(tmp_path / "cityscapes")


def prepare(source, folder):
    return input_pipeline.prepare("cityscapes", data_dir=folder / "data", source=source)


def test_ids():
    for raw in range(34):
        assert cityscapes.ID_MAP[raw] == TRAIN_IDS.get(raw, 255)
    assert set(cityscapes.ID_MAP) == set(range(34))
    labels = input_pipeline.labels_of("cityscapes", data_dir="data")
    assert labels.num_classes == 19
    assert labels.raw_ids == tuple(TRAIN_IDS)
    assert labels.names[11:14] == ("person", "rider", "car")
    assert labels.colors[13] == (0, 0, 142)


def test_splits_in_train_ids(source, tmp_path):
    assert prepare(source, tmp_path) == {"train": 3, "val": 2, "test": 2}
    split = input_pipeline.open_split("cityscapes", "val", data_dir=tmp_path / "data")
    assert split.has_labels
    for index, name in enumerate(NAMES["val"]):
        assert split.id(index) == name
        assert split.size(index) == (24, 48)
        example = split[index]
        assert example["id"] == name
        city = name.split("_")[0]
        image = Image.open(source / f"leftImg8bit/val/{city}/{name}_leftImg8bit.png")
        np.testing.assert_array_equal(example["image"], np.asarray(image))
        raw = np.asarray(Image.open(source / f"gtFine/val/{city}/{name}_gtFine_labelIds.png"))
        expected = np.vectorize(lambda id: TRAIN_IDS.get(id, 255))(raw)
        np.testing.assert_array_equal(example["label"], expected)


def test_test_has_no_labels(source, tmp_path):
    prepare(source, tmp_path)
    split = input_pipeline.open_split("cityscapes", "test", data_dir=tmp_path / "data")
    assert not split.has_labels
    assert split[1]["label"].shape == (24, 48)
    assert (split[1]["label"] == 255).all()


def test_without_the_test_images(source, tmp_path):
    (source / "leftImg8bit" / "test").rename(tmp_path / "elsewhere")
    assert prepare(source, tmp_path) == {"train": 3, "val": 2}


def damage_missing_label(source):
    (source / "gtFine/train/ulm/ulm_000002_000019_gtFine_labelIds.png").unlink()


def damage_converted(source):
    file = source / "gtFine/val/munster/munster_000000_000019_gtFine_labelIds.png"
    Image.fromarray(np.full((24, 48), 255, np.uint8)).save(file)


def damage_no_split(source):
    (source / "leftImg8bit" / "val").rename(source / "leftImg8bit" / "valid")


def damage_size(source):
    file = source / "gtFine/val/munster/munster_000000_000019_gtFine_labelIds.png"
    Image.fromarray(np.full((24, 40), 7, np.uint8)).save(file)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_missing_label, "ulm_000002_000019_gtFine_labelIds.png: missing"),
        (damage_converted, "was converted to train ids already (0 to 18 and 255): give the"),
        (damage_no_split, "leftImg8bit/val: no images; the source is the folder of leftImg8bit_"),
        (damage_size, "40x24, but its image is 48x24"),
    ],
)
def test_damage_is_found_before_anything_is_written(damage, says, source, tmp_path):
    damage(source)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path)
    assert says in str(caught.value)
    assert not list((tmp_path / "data").glob("*/[!.]*"))


def test_coarse_labels_are_a_split_of_their_own(source, tmp_path):
    name = "augsburg_000000_000000"
    images = source / "leftImg8bit" / "train_extra" / "augsburg"
    labels = source / "gtCoarse" / "train_extra" / "augsburg"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    Image.fromarray(np.full((24, 48, 3), 90, np.uint8)).save(images / f"{name}_leftImg8bit.png")
    raw = np.zeros((24, 48), np.uint8)
    raw[:12] = 26
    Image.fromarray(raw).save(labels / f"{name}_gtCoarse_labelIds.png")
    assert prepare(source, tmp_path) == {"train": 3, "val": 2, "test": 2, "train_extra": 1}
    both = input_pipeline.open_split("cityscapes", "train+train_extra", data_dir=tmp_path / "data")
    assert [both.id(index) for index in range(4)] == [*NAMES["train"], name]
    np.testing.assert_array_equal(both[3]["label"], np.where(raw == 26, 13, 255))
