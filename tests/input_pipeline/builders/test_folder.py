import os

import numpy as np
import pytest

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.labels import standard_color
from tests.input_pipeline.folder import (
    NAMES,
    draw_image,
    draw_label,
    open_split,
    pairs,
    prepare,
    refused,
    save,
    write_classes,
    write_folder,
)


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "mine")


@pytest.mark.parametrize("name", ["folder", "folder/my_photos", "folder/2nd"])
@pytest.mark.parametrize("storage", ["original", "fast"])
def test_images_labels_and_names_are_kept(source, name, storage):
    assert prepare(source, name, storage=storage) == {"train": 4, "val": 2}
    split = open_split(source, "val", name)
    assert split.labels.names == NAMES
    assert split.labels.colors == (standard_color(1), standard_color(2), standard_color(3))
    for index, seed in enumerate((4, 5)):
        np.testing.assert_array_equal(split[index]["image"], draw_image(seed))
        np.testing.assert_array_equal(split[index]["label"], draw_label(seed))
    if storage == "original":
        stored = split._records[0]["image"]
        assert stored == (source / "images/val/photo_0.png").read_bytes()


def test_several_stand_beside_one_another(source):
    prepare(source, "folder/first")
    write_classes(source, [{"name": name} for name in ("a", "b", "c")])
    prepare(source, "folder/second")

    def labels(name):
        return input_pipeline.labels_of(name, data_dir=source.parent / "data")

    assert labels("folder/first").names == NAMES
    assert labels("folder/second").names == ("a", "b", "c")
    with pytest.raises(DataError, match="'folder/third' is not prepared, and its classes are only"):
        labels("folder/third")


@pytest.mark.parametrize("name", ["folder/My photos", "folder/../x", "folder/a/b", "folder/ä"])
def test_variants_are_plain_words(source, name):
    with pytest.raises(DataError, match="in lower-case letters, digits and _"):
        prepare(source, name)


def test_subfolders_suffixes_and_other_extensions(source):
    for split, name, seed in pairs():
        (source / "images" / split / f"{name}.png").unlink()
        (source / "labels" / split / f"{name}.png").unlink()
        for kind in ("images", "labels"):
            (source / kind / split / "day").mkdir(exist_ok=True)
        save(source / "images" / split / "day" / f"{name}.bmp", draw_image(seed))
        save(source / "labels" / split / "day" / f"{name}_mask.tif", draw_label(seed))
    (source / "images" / "train" / ".DS_Store").write_text("hidden")
    (source / "images" / "train" / "Thumbs.db").write_text("clutter")
    prepare(source)
    assert open_split(source).id(2) == "day/photo_2"
    np.testing.assert_array_equal(open_split(source)[2]["label"], draw_label(2))


def test_test_may_have_labels_or_none(source):
    (source / "images" / "test").mkdir()
    save(source / "images" / "test" / "new.png", draw_image(9))
    assert prepare(source) == {"train": 4, "val": 2, "test": 1}
    split = open_split(source, "test")
    assert not split.has_labels
    assert (split[0]["label"] == 255).all()
    (source / "labels" / "test").mkdir()
    save(source / "labels" / "test" / "new.png", draw_label(9))
    assert prepare(source, "folder/labelled")["test"] == 1
    split = open_split(source, "test", "folder/labelled")
    np.testing.assert_array_equal(split[0]["label"], draw_label(9))


def no_val(source):
    (source / "images" / "val").rename(source / "elsewhere")


def no_images(source):
    (source / "images").rename(source / "pictures")


def other_names(source):
    (source / "images" / "train").rename(source / "images" / "training")


def valid(source):
    (source / "images" / "val").rename(source / "images" / "valid")


def masks(source):
    (source / "labels").rename(source / "masks")


def no_labels(source):
    (source / "labels" / "val").rename(source / "elsewhere")


def missing_label(source):
    (source / "labels/train/photo_1.png").unlink()


def missing_image(source):
    (source / "images/train/photo_0.png").unlink()


def two_images(source):
    save(source / "images/train/photo_1.jpg", draw_image(1))


def unknown_image(source):
    (source / "images/train/photo_9.heic").write_bytes(b"from a phone")


def torn_image(source):
    file = source / "images/val/photo_1.png"
    file.write_bytes(file.read_bytes()[:-200])


def empty_label(source):
    (source / "labels/val/photo_1.png").write_bytes(b"")


def no_classes(source):
    (source / "classes.txt").unlink()


def two_lists(source):
    (source / "classes.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (no_val, "images/val: no images. Scores come from images that were not trained on: move"),
        (no_images, "images/train: missing; the source is a folder with images/train and images/v"),
        (other_names, "images/train: no images; images holds only: training, val"),
        (
            valid,
            "images/val: no images; images holds only: train, valid. Rename the one that is m",
        ),
        (masks, "no labels for the images of images/val; beside images are masks: rename the one"),
        (no_labels, "labels/val: no labels for the images of images/val"),
        (missing_label, "images/train/photo_1.png: no label labels/train/photo_1.*"),
        (missing_image, "labels/train/photo_0.png: no image images/train/photo_0.*"),
        (two_images, "images/train/photo_1.png: photo_1.jpg has the same name"),
        (
            unknown_image,
            "images/train/photo_9.heic: not an image by its name; known are .png, .jpg",
        ),
        (torn_image, "images/val/photo_1.png: not a readable image, or torn"),
        (empty_label, "labels/val/photo_1.png: empty file"),
        (no_classes, "neither classes.txt, with the name of a class on each line, nor classes.js"),
        (two_lists, "both classes.txt and classes.json; leave only one of them"),
    ],
)
def test_what_is_missing_is_named(source, damage, says):
    damage(source)
    assert says in refused(source)


@pytest.mark.parametrize("name", ["notes.json", "results-00001.json", "train-00007.array_record"])
def test_what_a_person_keeps_beside_partial_shards_stays(source, name):
    folder = source.parent / "data/folder/.partial-1.0.0"
    folder.mkdir(parents=True)
    (folder / name).write_text("mine")
    prepare(source, "folder")
    assert (folder / name).read_text() == "mine"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("ending", ["json", "array_record"])
def test_what_has_a_shards_name_is_not_written_over(source, ending):
    folder = source.parent / "data/folder/.partial-1.0.0"
    folder.mkdir(parents=True)
    place = folder / f"train-00000.{ending}"
    place.write_text("mine")
    with pytest.raises(DataError, match=rf"train-00000\.{ending} was not written by an earlier"):
        prepare(source, "folder")
    assert place.read_text() == "mine"


def test_a_pipe_in_place_of_the_lock_is_not_waited_for(source):
    (source.parent / "data/folder").mkdir(parents=True)
    os.mkfifo(source.parent / "data/folder/.lock")
    with pytest.raises(DataError, match=r"\.lock is in the way: it is no ordinary file"):
        prepare(source, "folder")
