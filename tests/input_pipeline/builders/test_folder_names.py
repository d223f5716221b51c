"""Which files of a folder are images and labels, and which label belongs to which image."""

import os
import time
import unicodedata

import numpy as np
import pytest

from danet_jax.input_pipeline.builders import folder_names
from tests.input_pipeline.folder import (
    draw_image,
    draw_label,
    open_split,
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


def rename(source, image, label):
    """Gives images and labels other names, by the split, number and seed of each."""
    for split, name, seed in pairs():
        number = name.removeprefix("photo_")
        for kind, pattern in (("images", image), ("labels", label)):
            new = pattern(split, number, seed)
            file = source / kind / split / f"{name}.png"
            if new.endswith(".png"):
                file.rename(file.with_name(new))
            else:
                file.unlink()
                draw = draw_image if kind == "images" else draw_label
                save(file.with_name(new), draw(seed))


def assert_paired(source):
    assert prepare(source) == {"train": 4, "val": 2}
    for split in ("train", "val"):
        seeds = [seed for of, _, seed in pairs() if of == split]
        for index, seed in enumerate(seeds):
            np.testing.assert_array_equal(
                open_split(source, split)[index]["image"], draw_image(seed)
            )
            np.testing.assert_array_equal(
                open_split(source, split)[index]["label"], draw_label(seed)
            )


NAMES = {
    "suffixes of both": (lambda s, n, _: f"{n}_sat.png", lambda s, n, _: f"{n}_mask.png"),
    "of each split": (lambda s, n, _: f"{n}_{s}.png", lambda s, n, _: f"{n}_manual1.png"),
    "prefixes": (lambda s, n, _: f"img_00{n}.png", lambda s, n, _: f"seg_00{n}.png"),
    "both ends": (lambda s, n, _: f"rgb_00{n}_left.png", lambda s, n, _: f"gt_00{n}_ids.png"),
    "suffix of images": (lambda s, n, _: f"{s}{n}_leftImg8bit.png", lambda s, n, _: f"{s}{n}.png"),
    "upper case": (lambda s, n, _: f"DSC{n}.BMP", lambda s, n, _: f"DSC{n}.PNG"),
    "spaces": (lambda s, n, _: f"my photo ({n}).png", lambda s, n, _: f"my photo ({n}) - seg.png"),
    "kept extensions": (
        lambda s, n, seed: f"{n}.{('bmp', 'tif', 'png')[seed % 3]}",
        lambda s, n, seed: f"{n}.{('bmp', 'tif', 'png')[seed % 3]}.png",
    ),
    "kept extensions, same names": (
        lambda s, n, seed: f"x{int(n) // 2}.{('bmp', 'png')[seed % 2]}",
        lambda s, n, seed: f"x{int(n) // 2}.{('bmp', 'png')[seed % 2]}.png",
    ),
    "dots": (lambda s, n, _: f"v1.{n}.png", lambda s, n, _: f"v1.{n}.label.png"),
    "two forms of Unicode": (
        lambda s, n, _: unicodedata.normalize("NFD", f"Blåbær_ü{n}.png"),
        lambda s, n, _: unicodedata.normalize("NFC", f"Blåbær_ü{n}.png"),
    ),
    "gif": (lambda s, n, _: f"{n}.png", lambda s, n, _: f"{n}.gif"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES.keys())
def test_names_of_pairs(source, names):
    rename(source, *names)
    assert_paired(source)


def test_numbers_are_not_cut_in_two(source):
    rename(source, lambda s, n, _: f"{n}.png", lambda s, n, _: f"1{n}.png")
    said = refused(source)
    assert "images/train and labels/train: the names differ too much" in said
    assert "0.png, 1.png and 10.png, 11.png" in said


def test_names_that_differ_in_capitals_alone_are_said_to(source):
    rename(
        source,
        lambda split, number, seed: f"{'ABCDEF'[seed]}.png",
        lambda split, number, seed: f"{'abcdef'[seed]}.png",
    )
    assert "differ only in upper and lower case, A.png and a.png" in refused(source)


def test_a_label_without_an_image_is_named_where_beginnings_differ(source):
    rename(
        source,
        lambda split, number, seed: f"img_{number}.png",
        lambda split, number, seed: f"mask_{number}.png",
    )
    (source / "images/train/img_1.png").unlink()
    assert "labels/train/mask_1.png: no image is called like it" in refused(source)


def test_a_single_file_that_resembles_another_is_no_pair():
    splits = {"train": (["a_left.png"], ["a_right.png"])}
    assert folder_names.find_ids(splits) == {"train": {"a_left.png": ("a_left", "a_left")}}
    # By the names of another split it is.
    splits["val"] = (["b_left.png", "c_left.png"], ["b_right.png", "c_right.png"])
    assert folder_names.find_ids(splits)["train"] == {"a_left.png": ("a_left", "a_right")}


def test_many_names_are_paired_fast():
    images = [f"scene_{index:06d}_rgb.tif" for index in range(2_000)]
    labels = [f"scene_{index:06d}_label.tif" for index in range(2_000)]
    start = time.process_time()
    found = folder_names.find_ids({"train": (images, labels)})
    assert found["train"][images[7]] == ("scene_000007_rgb", "scene_000007_label")
    assert time.process_time() - start < 5


def test_what_systems_and_programs_leave_is_left_out(source):
    images = source / "images" / "train"
    for clutter in ("@eaDir/photo_0.png", "__MACOSX", "#recycle", ".ipynb_checkpoints"):
        (images / clutter).mkdir(parents=True)
        save(images / clutter / "thumb.jpg", draw_image(9))
    for clutter in ("._photo_0.png", "Thumbs.db", "ehthumbs.db", "Desktop.ini", ".DS_Store"):
        (images / clutter).write_bytes(b"x")
    for sidecar in ("photo_0.png.aux.xml", "photo_0.pgw", "photo_1.png.ovr", "photo_2.json"):
        (images / sidecar).write_bytes(b"x")
    assert_paired(source)
    assert any(
        warning.startswith("4 files beside the images (images/train/photo_0.pgw, ")
        for warning in survey_of(source).warnings
    )


def test_linked_folders_and_files_are_gone_through(source, tmp_path):
    for kind, draw in (("images", draw_image), ("labels", draw_label)):
        elsewhere = tmp_path / "elsewhere" / kind
        elsewhere.mkdir(parents=True)
        save(elsewhere / "far.png", draw(11))
        (source / kind / "train" / "linked").symlink_to(elsewhere)
        (source / kind / "train" / "single.png").symlink_to(
            save(tmp_path / f"{kind}.png", draw(12))
        )
    assert prepare(source)["train"] == 6
    ids = [open_split(source).id(index) for index in range(6)]
    assert ids[0] == "linked/far"
    np.testing.assert_array_equal(open_split(source)[0]["label"], draw_label(11))


def broken_link(folder):
    (folder / "gone.png").symlink_to("/nowhere/gone.png")


def looping_link(folder):
    (folder / "again").symlink_to(folder)


def links_that_loop_together(folder):
    other = folder.parent / "other"
    other.mkdir()
    (folder / "b").symlink_to(other)
    (other / "a").symlink_to(folder)


def pipe(folder):
    os.mkfifo(folder / "pipe.png")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (broken_link, "images/train/gone.png: a link to nothing"),
        (looping_link, "images/train/again: a link to a folder that contains it"),
        (links_that_loop_together, "images/train/b/a: a link to a folder that contains it"),
        (pipe, "images/train/pipe.png: a named pipe"),
    ],
)
def test_what_is_no_file_is_named(source, damage, says):
    damage(source / "images" / "train")
    assert says in refused(source)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("task-{}-annotation-7-by-1-tag-a-0", "task-{}-annotation-7-by-1-tag-b-0"),
            "Label Studio",
        ),
        (("photo_{}_road", "photo_{}_tree"), "photo_0_road.png, photo_0_tree.png"),
        (("photo_{}", "photo_{}_instanceIds"), "photo_0.png, photo_0_instanceIds.png"),
    ],
)
def test_several_labels_for_an_image_are_to_be_merged(source, names, says):
    for split, name, seed in pairs():
        (source / "labels" / split / f"{name}.png").unlink()
        for pattern in names:
            file = pattern.format(name.removeprefix("photo_"))
            save(source / "labels" / split / f"{file}.png", draw_label(seed))
    said = refused(source)
    assert says in said
    assert "merge" in said
    assert "2 problems" in said
