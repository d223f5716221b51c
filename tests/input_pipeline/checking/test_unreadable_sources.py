"""Files that the system does not give, and splits that cannot be used: told before and at once."""

import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import shards
from tests.input_pipeline.folder import (
    assert_stored,
    draw_image,
    draw_label,
    pairs,
    prepare,
    refused,
    save,
    survey_of,
    write_folder,
)


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "mine")


@pytest.fixture
def failing(monkeypatch):
    """Names of files that cannot be opened or read, each with its error."""
    import os

    failures = {}
    opened = os.open

    def open_or_fail(path, *args, **options):
        for name, error in failures.items():
            if str(path).endswith(name):
                raise OSError(error, os.strerror(error))
        return opened(path, *args, **options)

    monkeypatch.setattr(os, "open", open_or_fail)
    return failures


def test_all_files_that_a_disk_fails_to_give_are_listed(source, failing):
    failing |= {
        "images/train/photo_1.png": 5,
        "labels/train/photo_2.png": 13,
        "labels/val/photo_0.png": 116,
    }
    said = refused(source)
    assert "3 problems" in said
    assert "images/train/photo_1.png: cannot be read: Input/output error; its disk" in said
    assert "labels/train/photo_2.png: cannot be read: Permission denied; give yourself" in said
    assert "labels/val/photo_0.png: cannot be read: Stale file handle" in said
    assert "data_dir" not in said


def test_the_list_of_unreadable_files_is_bounded(source, failing):
    for index in range(60):
        for kind, draw in (("images", draw_image), ("labels", draw_label)):
            save(source / kind / "train" / f"bad_{index}.png", draw(0))
    failing |= {".png": 5}
    said = refused(source)
    assert "132 problems" in said
    assert "and 127 more" in said
    assert len(said.splitlines()) < 12


def test_a_real_read_error_names_the_file(source):
    # Reading it fails, or gives what its size does not say.
    (source / "images" / "train" / "sector.png").symlink_to("/proc/self/mem")
    save(source / "labels" / "train" / "sector.png", draw_label(0))
    said = refused(source)
    assert "1 problem in" in said
    assert "images/train/sector.png: cannot be read: Input/output error" in said


def test_lists_that_cannot_be_read_are_named(source, failing):
    failing["classes.txt"] = 5
    assert "classes.txt: cannot be read: Input/output error" in refused(source)


def test_a_listing_of_pairs_that_cannot_be_read_is_named(tmp_path, failing):
    (tmp_path / "train.txt").write_text("a.png b.png")
    (tmp_path / "val.txt").write_text("a.png b.png")
    failing["val.txt"] = 5
    with pytest.raises(DataError, match=r"val\.txt: cannot be read: Input/output error"):
        input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=tmp_path)


def test_what_the_process_lacks_is_no_fault_of_a_file(source, failing):
    failing["images/train/photo_1.png"] = 24
    with pytest.raises(DataError) as caught:
        prepare(source)
    assert "Too many open files" in str(caught.value)
    assert "photo_1.png: cannot be read" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("train[:x", "asks for split 'train[:x', which is not a split: write"),
        ("", "asks for split '', which is not a split"),
        ("train[:300%]", "asks for split 'train[:300%]', which is not a split"),
        ("train[:9]", "asks for 'train[:9]', but there are only 4 train, 2 val"),
        ("val[:0]", "asks for 'val[:0]', which selects no example of 4 train, 2 val"),
        ("train+vall", "no images of split 'vall', which config.data asks for"),
    ],
)
def test_bad_splits_are_refused_before_any_file_is_read(source, monkeypatch, split, says):
    monkeypatch.setattr(shards.Shard, "__call__", lambda self: pytest.fail("a file was read"))
    with pytest.raises(DataError) as caught:
        prepare(source, splits=("train", split))
    assert says in str(caught.value)
    assert not (source.parent / "data").exists()


def test_splits_of_drawn_scenes_are_refused_before_any_is_drawn(tmp_path):
    with pytest.raises(DataError, match=r"has no split 'vall'; it has train, val"):
        input_pipeline.prepare("synthetic_scenes", data_dir=tmp_path / "data", splits=("vall",))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("split", "says"), [("val", "nothing can be scored"), ("train", "nothing can be learned")]
)
def test_a_split_without_a_labelled_pixel_is_told(source, split, says):
    for of, name, seed in pairs():
        if of == split:
            save(source / "labels" / of / f"{name}.png", np.full_like(draw_label(seed), 255))
    prepare(source)
    (warning,) = (w for w in survey_of(source).warnings if "no labelled pixel" in w)
    assert warning.startswith(f"split {split} has no labelled pixel: 100 % of the pixels")
    assert says in warning
    assert "config.data." in warning
    assert input_pipeline.doubts_on_labels(
        "folder/mine", ("train[:2]", "val"), data_dir=source.parent / "data"
    ) == [warning]


def test_a_split_with_hardly_a_labelled_pixel_is_told(source):
    for of, name, seed in pairs():
        if of == "val":
            label = np.full_like(draw_label(seed), 255)
            label[0, :3] = 0, 1, 2
            save(source / "labels" / of / f"{name}.png", label)
    prepare(source)
    assert any("split val: 99.6 % of the pixels" in w for w in survey_of(source).warnings)


def test_one_number_for_each_object_is_told_from_missing_classes(source):
    random = np.random.default_rng(0)

    def objects(seed):
        label = np.zeros_like(draw_label(seed))
        for number in range(1, 8 + 2 * seed):
            y, x = random.integers(0, label.shape[0] - 4), random.integers(0, label.shape[1] - 4)
            label[y : y + 4, x : x + 4] = number
        return label

    for of, name, seed in pairs():
        save(source / "labels" / of / f"{name}.png", objects(seed))
    said = refused(source)
    assert "not for each object (instance)" in said
    # 20 classes of which three are named: each label has some of them.
    for of, name, seed in pairs():
        ids = random.choice(20, 9, replace=False)
        save(source / "labels" / of / f"{name}.png", ids[draw_label(seed) % 9].astype(np.uint8))
    said = refused(source)
    assert "instance" not in said
    assert "belong to no class" in said


def test_labels_with_previews_of_themselves_are_read(source):
    for of, name, seed in pairs():
        (source / "labels" / of / f"{name}.png").unlink()
        label = Image.fromarray(draw_label(seed))
        save(source / "labels" / of / f"{name}.tif", label)
        (source / "labels" / of / f"{name}.tif.ovr").write_bytes(b"preview")
    prepare(source)
    assert_stored(source)
