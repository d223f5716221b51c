import collections
import contextlib
import json
import pickle
import resource
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import DATA_SETS, camvid, synthetic_scenes
from danet_jax.input_pipeline.images import codec
from danet_jax.input_pipeline.labels import Labels
from danet_jax.input_pipeline.storage import datasets, preparation
from tests.input_pipeline.conftest import SIZES
from tests.input_pipeline.folder import draw_image, prepare, save, write_folder
from tests.input_pipeline.folder import open_split as open_folder
from tests.input_pipeline.test_pipeline import config


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def flat(*shape, value=0):
    return png(np.full(shape, value, np.uint8))


def test_preparing_twice_does_nothing(prepared, capfd):
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    # The source is not looked at any more, nor needed.
    assert preparation.prepare("camvid", data_dir=prepared) == {"train": 7, "val": 8}
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before
    said = capfd.readouterr().err
    assert f"{prepared / 'camvid' / '1.0.0'} was prepared before and stays as it is. " in said
    assert "To prepare it again, move that folder away, or choose another" in said
    assert "config.data.data_dir" in said


def test_two_at_a_time_are_refused(source, tmp_path):
    data_dir = tmp_path / "data"
    (data_dir / "camvid").mkdir(parents=True)
    with (
        preparation._locked(data_dir / "camvid"),
        pytest.raises(DataError, match="another process is preparing"),
    ):
        preparation.prepare("camvid", data_dir=data_dir, source=source)
    assert preparation.prepare("camvid", data_dir=data_dir, source=source)["train"] == 7


def test_only_the_data_set_is_written(prepared):
    assert [path.name for path in prepared.iterdir()] == ["camvid"]
    assert [path.name for path in (prepared / "camvid").iterdir()] == ["1.0.0"]


def test_preparing_is_silent(source, tmp_path, capfd):
    preparation.prepare("camvid", data_dir=tmp_path / "data", source=source)
    assert capfd.readouterr() == ("", "")


def test_names_and_sources_are_checked(source, tmp_path):
    def message(name, **options):
        with pytest.raises(DataError) as caught:
            preparation.prepare(name, data_dir=tmp_path / "data", **options)
        assert not (tmp_path / "data").exists()
        return str(caught.value)

    assert "unknown data set 'camvit': did you mean 'camvid'?" in message("camvit")
    assert "Known are ade20k, camvid, cityscapes, coco_stuff_10k" in message("zzz")
    assert "'camvid' needs a source: the folder CamVid" in message("camvid")
    assert "nowhere is not a folder" in message("camvid", source=tmp_path / "nowhere")
    assert "train.txt is not a folder" in message("camvid", source=source / "train.txt")
    (tmp_path / "void").mkdir()
    assert "void is empty" in message("camvid", source=tmp_path / "void")
    assert "leave out the source" in message("synthetic_scenes", source=source)


def test_a_data_dir_that_cannot_be_written_is_named(source, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"camvid.*file"):
        preparation.prepare("camvid", data_dir=tmp_path / "file" / "data", source=source)


def test_ctrl_c_while_writing_leaves_nothing(source, tmp_path, monkeypatch):
    written = []

    def failing(label):
        written.append(label)
        if len(written) == 5:
            raise KeyboardInterrupt
        return png(label)

    monkeypatch.setattr(codec, "encode_label", failing)
    with pytest.raises(KeyboardInterrupt):
        preparation.prepare("camvid", data_dir=tmp_path / "data", source=source)
    assert not (tmp_path / "data").exists()
    monkeypatch.undo()
    assert preparation.prepare("camvid", data_dir=tmp_path / "data", source=source)["train"] == 7


@contextlib.contextmanager
def full_disk(size):
    """No file grows above `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("name", ["camvid", "synthetic_scenes"])
def test_a_full_disk_is_named_and_leaves_nothing(source, tmp_path, monkeypatch, name):
    monkeypatch.setattr(synthetic_scenes, "NUM_SCENES", {"train": 3, "val": 2})
    given = {"source": source} if name == "camvid" else {}
    says = rf"{name}' cannot be prepared in \S+: \S+-train.array_record\S+: File too large; fix"
    with full_disk(9_000), pytest.raises(DataError, match=says):
        preparation.prepare(name, data_dir=tmp_path / "data", **given)
    assert not (tmp_path / "data").exists()
    assert preparation.prepare(name, data_dir=tmp_path / "data", **given)["val"] > 1


def test_left_overs_of_a_killed_run_are_removed(source, tmp_path):
    left = tmp_path / "data" / "camvid" / "incomplete.ABC123_1.0.0"
    left.mkdir(parents=True)
    (left / "camvid-train.array_record").write_text("half")
    preparation.prepare("camvid", data_dir=tmp_path / "data", source=source)
    assert [path.name for path in (tmp_path / "data" / "camvid").iterdir()] == ["1.0.0"]


def test_open_split(prepared):
    split = datasets.open_split("camvid", "val", data_dir=prepared)
    assert (split.name, split.split, len(split)) == ("camvid", "val", 8)
    assert split.labels.names == camvid.NAMES
    assert split.labels.num_classes == 11
    assert [example["label"].shape for example in split] == SIZES["val"]
    with pytest.raises(IndexError):
        split[8]


def test_a_split_knows_the_sizes_of_its_images(prepared):
    for name in ("train", "val", "val[:3]", "train+val"):
        parts = name.partition("[")[0].split("+")
        whole = [input_pipeline.open_split("camvid", part, data_dir=prepared) for part in parts]
        expected = collections.Counter(
            split.size(index) for split in whole for index in range(len(split))
        )
        assert input_pipeline.open_split("camvid", name, data_dir=prepared).sizes() == expected


@pytest.mark.parametrize("fault", ["left out", "torn", "edited", "missing"])
def test_of_a_split_that_nobody_counted_the_first_size_is_known(prepared, tmp_path, fault):
    """What is only to save time does not stop the work."""
    shutil.copytree(prepared, tmp_path / "data")
    split = input_pipeline.open_split("camvid", "val", data_dir=tmp_path / "data")
    survey = split.folder / "survey.json"
    content = json.loads(survey.read_text())
    if fault == "left out":
        del content["splits"]["val"]
    elif fault == "edited":
        content["splits"]["val"]["sizes"] = {"32 x 24": 8}
    survey.write_text(json.dumps(content))
    if fault == "torn":
        survey.write_text(survey.read_text()[:-40])
    elif fault == "missing":
        survey.unlink()
    assert split.sizes() == {SIZES["val"][0]: 1}


def test_a_split_survives_pickling(prepared):
    split = datasets.open_split("camvid", "val", data_dir=prepared)
    copy = pickle.loads(pickle.dumps(split))
    for got, want in zip(copy, split, strict=True):
        assert got["id"] == want["id"]
        np.testing.assert_array_equal(got["image"], want["image"])
        np.testing.assert_array_equal(got["label"], want["label"])


@pytest.fixture(scope="module")
def partly_labelled(tmp_path_factory):
    """A folder data set whose val is labelled and whose test is not."""
    source = write_folder(tmp_path_factory.mktemp("sums") / "mine")
    (source / "images/test").mkdir()
    for index in range(6):
        save(source / f"images/test/new_{index}.png", draw_image(index + 50))
    assert prepare(source) == {"train": 4, "val": 2, "test": 6}
    return source


@pytest.mark.parametrize(
    ("split", "labelled", "others"),
    [
        ("val+test", "val", "test"),
        ("test+val", "val", "test"),
        ("val[:1]+test[50%:]", "val", "test"),
        ("train+test[5:]+val+train[:1]", "train, val", "test"),
    ],
)
def test_sums_of_labelled_and_unlabelled_splits_are_refused(
    partly_labelled, split, labelled, others
):
    """Where they would be learned from or scored; a prediction needs no labels."""
    opened = open_folder(partly_labelled, split)
    for use in (lambda: opened.has_labels, lambda: training_stream(opened)):
        with pytest.raises(DataError) as caught:
            use()
        said = str(caught.value)
        assert f"split {split!r} of data set 'folder/mine' mixes images with labels" in said
        assert f"with labels ({labelled}) and images that came without any ({others})" in said
        assert f"ask for {'+'.join(labelled.split(', '))!r} or {others!r}" in said
    batches = input_pipeline.evaluation_batches(opened, batch_size=4)
    assert sum((batch["index"] >= 0).sum() for batch in batches) == len(opened)


def test_sums_of_one_kind_are_labelled_or_not(partly_labelled):
    for split in ("train+val", "val[1:]+train[:2]", "test[:0]+val", "val"):
        opened = open_folder(partly_labelled, split)
        assert opened.has_labels
        assert pickle.loads(pickle.dumps(opened)).has_labels
        training_stream(opened)
    for split in ("test", "test[:2]+test[3:]", "val[:0]+test"):
        assert not open_folder(partly_labelled, split).has_labels


def training_stream(split):
    input_pipeline.TrainingStream(split, config(), batch_size=2, seed=0).close()


def test_what_cannot_be_opened_is_named(prepared, tmp_path):
    with pytest.raises(DataError, match=r"'camvid' is not prepared in .*: run `danet prepare"):
        datasets.open_split("camvid", "train", data_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        datasets.open_split("camvid", "test", data_dir=prepared)
    with pytest.raises(DataError, match="did you mean 'synthetic_scenes'"):
        datasets.open_split("synthetic", "train", data_dir=prepared)


def test_missing_and_torn_files_are_named(source, tmp_path):
    preparation.prepare("camvid", data_dir=tmp_path / "data", source=source)
    records = next((tmp_path / "data").rglob("*train*"))
    whole = records.read_bytes()
    records.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"'camvid'.*is damaged"):
        datasets.open_split("camvid", "train", data_dir=tmp_path / "data")[0]
    records.write_bytes(b"")
    with pytest.raises(DataError, match=r"'camvid'.*is damaged"):
        datasets.open_split("camvid", "train", data_dir=tmp_path / "data")[0]
    records.unlink()
    with pytest.raises(DataError, match=r"camvid-train.*is missing; move .*camvid"):
        datasets.open_split("camvid", "train", data_dir=tmp_path / "data")
    info = next((tmp_path / "data").rglob("dataset_info.json"))
    info.write_text(info.read_text()[:40])
    with pytest.raises(DataError, match=r"dataset_info.json cannot be read: .*copy"):
        datasets.open_split("camvid", "val", data_dir=tmp_path / "data")


def permission_denied(self):
    raise PermissionError(13, "Permission denied", str(self))


def test_what_the_system_refuses_is_not_to_be_deleted(source, tmp_path, monkeypatch):
    preparation.prepare("camvid", data_dir=tmp_path / "data", source=source)
    place = tmp_path / "data" / "camvid" / "1.0.0"
    records = place / "camvid-train.array_record-00000-of-00001"
    mended = "its files may be intact: fix that, and repeat the command"

    def check(what, failure):
        with pytest.raises(DataError) as caught:
            datasets.open_split("camvid", "train", data_dir=tmp_path / "data")[0]
        assert str(caught.value) == f"data set 'camvid'{what} cannot be read: {failure}; {mended}"

    # ArrayRecord's words, and TFDS's.
    records.rename(tmp_path / "records")
    records.mkdir()
    check(", split 'train'", f"{records}: Is a directory")
    monkeypatch.setattr(type(tfds.core.Path()), "read_text", permission_denied)
    check(f" in {tmp_path / 'data'}", f"{place / 'dataset_info.json'}: Permission denied")


def record(image, label):
    labels = Labels(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    records = [{"id": b"frame_7", "image": image, "label": label}]
    return datasets.Split(
        "toy", "train", data_dir=Path(), labels=labels, records=records, folder=Path()
    )


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (flat(4, 6, 3), flat(4, 5), "the image is 6x4, its label 5x4"),
        (flat(4, 6, 3), flat(4, 6, value=2), "label ids 2, but the classes are 0 to 1"),
        (flat(4, 6, 3), flat(4, 6, 3), "not one 8-bit channel"),
        (b"torn", flat(4, 6), "does not decode"),
    ],
    ids=["size", "id", "rgb", "torn"],
)
def test_unusable_records_are_named(image, label, message):
    with pytest.raises(
        DataError, match="data set 'toy', split 'train', example 'frame_7': .*" + message
    ):
        record(image, label)[0]


def test_all_classes_and_the_ignored_one_are_fine():
    label = np.array([[0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(record(flat(1, 3, 3), png(label))[0]["label"], label)


@pytest.mark.parametrize(
    ("names", "colors", "message"),
    [
        ((), (), "0 classes"),
        (("a", "b", "a"), ((0, 0, 0),) * 3, "more than once: a"),
        (("a", "b"), ((0, 0, 0),), "2 names but 1 colour"),
        (("a",), ((0, 0, 256),), "colour .* of 'a'"),
        (tuple(map(str, range(256))), ((0, 0, 0),) * 256, "256 classes"),
    ],
)
def test_labels_are_checked(names, colors, message):
    with pytest.raises(DataError, match=message):
        Labels(names, colors)


def test_every_known_data_set_has_its_own_name():
    for name, builder in DATA_SETS.items():
        assert builder.name == name
    assert input_pipeline.IGNORE_LABEL == 255
