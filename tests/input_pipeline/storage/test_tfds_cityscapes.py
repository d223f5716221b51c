"""Cityscapes as TFDS prepares it: its features and names, written here by TFDS itself."""

import json
import pickle

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.storage import catalogue
from tests.input_pipeline.builders.test_cityscapes import TRAIN_IDS
from tests.input_pipeline.cityscapes import write_cityscapes

SIZES = {"train": 3, "validation": 2, "test": 2}


def draw(split, index):
    """Image RGB and labelIds of an example."""
    rng = np.random.default_rng([len(split), index])
    image = rng.integers(0, 256, (16, 32, 3), dtype=np.uint8)
    label = rng.integers(0, 34, (16, 32), dtype=np.uint8)
    return image, np.full_like(label, 3) if split == "test" else label


class TfdsCityscapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What tfds.datasets.cityscapes declares, on small drawn images."""

    name = "cityscapes"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="semantic_segmentation", version="1.0.0")]  # noqa: RUF012
    pkg_dir_path = code_path = tfds.core.Path(__file__).parent
    wrong_id: int | None = None

    def _info(self):
        image = tfds.features.Image(shape=(1024, 2048, 3), encoding_format="png")
        label = tfds.features.Image(shape=(1024, 2048, 1), encoding_format="png", use_colormap=True)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image_id": tfds.features.Text(),
                    "image_left": image,
                    "segmentation_label": label,
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, count) for split, count in SIZES.items()}

    def _generate_examples(self, split, count):
        for index in range(count):
            image, label = draw(split, index)
            if self.wrong_id is not None:
                label[0, 0] = self.wrong_id
            name = f"{split}_{index:06d}_000019"
            yield (
                name,
                {
                    "image_id": name,
                    "image_left": cv2.imencode(".png", image[..., ::-1])[1].tobytes(),
                    "segmentation_label": cv2.imencode(".png", label)[1].tobytes(),
                },
            )


def write(data_dir, builder=TfdsCityscapes):
    with catalogue.quiet():
        builder(data_dir=data_dir, file_format="array_record").download_and_prepare(
            download_dir=data_dir / "downloads"
        )
    return data_dir / "cityscapes" / "semantic_segmentation" / "1.0.0"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    write(folder)
    return folder


def test_label_ids_are_read_as_train_ids(data_dir):
    for ours, theirs in (("train", "train"), ("val", "validation")):
        split = input_pipeline.open_split("cityscapes", ours, data_dir=data_dir)
        assert (split.name, split.split, len(split)) == ("cityscapes", ours, SIZES[theirs])
        assert split.has_labels
        assert split.labels.names[13] == "car"
        # TFDS shuffles what it writes.
        assert sorted(split.id(index) for index in range(len(split))) == [
            f"{theirs}_{index:06d}_000019" for index in range(SIZES[theirs])
        ]
        for position in range(len(split)):
            example = split[position]
            image, raw = draw(theirs, int(example["id"].split("_")[1]))
            np.testing.assert_array_equal(example["image"], image)
            expected = np.vectorize(lambda id: TRAIN_IDS.get(id, 255))(raw)
            np.testing.assert_array_equal(example["label"], expected)
            assert split.size(position) == (16, 32)
            counts = np.bincount(expected[expected < 255], minlength=19)
            np.testing.assert_array_equal(split.class_pixels(position), counts)


def test_test_has_no_labels(data_dir):
    split = input_pipeline.open_split("cityscapes", "test", data_dir=data_dir)
    assert len(split) == 2
    assert not split.has_labels
    assert (split[1]["label"] == 255).all()


def test_test_is_no_part_of_a_labelled_sum(data_dir):
    for name in ("val+test", "test+val", "test[1:]+validation[:1]"):
        split = input_pipeline.open_split("cityscapes", name, data_dir=data_dir)
        with pytest.raises(DataError, match="mixes images with labels") as caught:
            split.has_labels  # noqa: B018
        assert "without any (test)" in str(caught.value)
    # Nothing of test is taken.
    split = input_pipeline.open_split("cityscapes", "test[:0]+val", data_dir=data_dir)
    assert split.has_labels
    raw = draw("validation", int(split.id(0).split("_")[1]))[1]
    expected = np.vectorize(lambda id: TRAIN_IDS.get(id, 255))(raw)
    np.testing.assert_array_equal(split[0]["label"], expected)


def test_parts_sums_and_their_own_names(data_dir):
    def length(split):
        return len(input_pipeline.open_split("cityscapes", split, data_dir=data_dir))

    assert length("train+val") == 5
    assert length("val[:1]+train[1:]") == 3
    assert length("validation") == 2
    with pytest.raises(DataError, match=r"no split 'train_extra'; it has test, train, validation"):
        length("train_extra")


def test_it_survives_pickling(data_dir):
    split = input_pipeline.open_split("cityscapes", "val", data_dir=data_dir)
    copy = pickle.loads(pickle.dumps(split))
    for index in range(2):
        np.testing.assert_array_equal(copy[index]["label"], split[index]["label"])
    assert copy.folder == data_dir / "cityscapes" / "semantic_segmentation" / "1.0.0"


def test_what_is_in_it(data_dir):
    survey = input_pipeline.survey_of("cityscapes", data_dir=data_dir)
    assert {name: split.examples for name, split in survey.splits.items()} == SIZES
    raw = np.stack([draw("train", index)[1] for index in range(3)])
    expected = [int((raw == id).sum()) for id in TRAIN_IDS]
    assert survey.splits["train"].class_pixels.tolist() == expected
    assert survey.splits["train"].sizes == {"32x16": 3}


def test_our_own_comes_first(tmp_path):
    write(tmp_path)
    source = write_cityscapes(tmp_path / "source")
    input_pipeline.prepare("cityscapes", data_dir=tmp_path, source=source)
    split = input_pipeline.open_split("cityscapes", "val", data_dir=tmp_path)
    assert split.id(0) == "frankfurt_000000_000294"
    assert (tmp_path / "cityscapes" / "semantic_segmentation").is_dir()


def test_an_id_that_is_no_label_id_is_named(tmp_path):
    class Converted(TfdsCityscapes, skip_registration=True):
        name = "cityscapes"
        wrong_id = 255

    write(tmp_path, Converted)
    split = input_pipeline.open_split("cityscapes", "val", data_dir=tmp_path)
    with pytest.raises(
        DataError,
        match=r"example 'validation_\d{6}_000019': label id 255, but labelIds are 0 to 33",
    ):
        split[0]


def test_tfrecord_is_refused_with_the_command_that_converts_it(tmp_path):
    folder = write(tmp_path)
    # The same description that TFDS writes for its default format, whose writer needs TensorFlow.
    info = folder / "dataset_info.json"
    values = json.loads(info.read_text())
    assert values["fileFormat"] == "array_record"
    info.write_text(json.dumps(values | {"fileFormat": "tfrecord"}))
    command = f"tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record"
    with pytest.raises(DataError, match="prepared by TFDS as tfrecord") as caught:
        input_pipeline.open_split("cityscapes", "train", data_dir=tmp_path)
    assert command in str(caught.value)
    # What that command leaves: both formats in one folder.
    info.write_text(
        json.dumps(values | {"fileFormat": "tfrecord", "alternativeFileFormats": ["array_record"]})
    )
    assert len(input_pipeline.open_split("cityscapes", "train", data_dir=tmp_path)) == 3


def test_missing_and_torn_files_are_named(tmp_path):
    folder = write(tmp_path)
    next(folder.glob("*train*")).unlink()
    with pytest.raises(DataError, match=r"'cityscapes' is damaged: .*train.* is missing"):
        input_pipeline.open_split("cityscapes", "train", data_dir=tmp_path)
    info = folder / "dataset_info.json"
    info.write_text(info.read_text()[:40])
    with pytest.raises(DataError, match=r"dataset_info.json cannot be read: .*copy"):
        input_pipeline.open_split("cityscapes", "val", data_dir=tmp_path)
