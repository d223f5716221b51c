"""What is strange in a set of labels that are usable each by itself."""

import shutil

import numpy as np
from PIL import Image

from danet_jax import input_pipeline
from tests.input_pipeline.conftest import write_camvid
from tests.input_pipeline.folder import (
    HEIGHT,
    WIDTH,
    as_ids,
    draw_image,
    draw_label,
    save,
    warnings_of,
    write_folder,
)


def test_mixed_sizes(tmp_path):
    source = write_folder(tmp_path / "mine")
    for kind, pixels in (("images", draw_image(0)), ("labels", draw_label(0))):
        save(source / kind / "train" / "photo_0.png", np.ascontiguousarray(pixels[:, :30]))
    assert warnings_of(source) == [
        "split train: 2 sizes of images, the most frequent 32x24 (3 of 4). That is fine: "
        "training crops them to one size, and evaluation makes batches of one size each."
    ]


def test_images_in_both_train_and_val_and_twice(tmp_path):
    source = write_folder(tmp_path / "mine")
    for kind in ("images", "labels"):
        shutil.copy(source / kind / "train/photo_3.png", source / kind / "val/photo_1.png")
        shutil.copy(source / kind / "train/photo_0.png", source / kind / "train/photo_2.png")
    assert warnings_of(source) == [
        "twice in train: 1 pair (images/train/photo_0.png = images/train/photo_2.png) of the same "
        "image. They count twice.",
        "in both train and val: 1 pair (images/train/photo_3.png = images/val/photo_1.png) of the "
        "same image. Scores on images that were trained on say nothing: move them out of one of "
        "the two.",
    ]


def test_classes_that_occur_nowhere(tmp_path):
    source = write_folder(tmp_path / "mine")
    (source / "classes.txt").write_text("road\ntree\ncar\n" + "\n".join("abcdefg"))
    assert warnings_of(source) == [
        "no pixel of 'a', 'b', 'c', 'd', 'e' and 2 more in the whole data set: these can be "
        "neither learned nor scored."
    ]


def test_classes_that_one_split_lacks(tmp_path):
    source = write_folder(tmp_path / "mine")
    for file in source.glob("labels/val/*.png"):
        save(file, np.minimum(np.asarray(Image.open(file)), 1))
    for file in source.glob("labels/train/*.png"):
        save(file, as_ids(0, 0, 2, 255)(np.asarray(Image.open(file))))
    assert warnings_of(source) == [
        "split train has no pixel of 'tree', which cannot be learned there.",
        "split val has no pixel of 'car', which cannot be scored there.",
    ]


def test_images_without_a_labelled_pixel(tmp_path):
    source = write_folder(tmp_path / "mine")
    for index in (1, 2):
        save(source / f"labels/train/photo_{index}.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert warnings_of(source) == [
        "split train: 2 images (images/train/photo_1.png, images/train/photo_2.png) without any "
        "labelled pixel: nothing is learned or scored there. Label what was forgotten, or "
        "move those images out of the source."
    ]


def test_a_class_for_what_is_no_class(tmp_path):
    source = write_folder(tmp_path / "mine")
    (source / "classes.txt").write_text("__ignore__\nbackground\nVoid\n")
    assert warnings_of(source) == [
        f"class {id} is {name!r}, and will be learned like any other. Pixels to be ignored are "
        "255: leave the class out, and list its id as ignored."
        for id, name in ((0, "__ignore__"), (2, "Void"))
    ]


def test_another_number_of_examples_than_published(tmp_path):
    source = write_camvid(tmp_path / "CamVid", {"train": [(24, 32)] * 3, "val": [(24, 32)]})
    input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=source)
    assert input_pipeline.survey_of("camvid", data_dir=tmp_path / "data").warnings[:2] == [
        "split train has 3 examples; the published one has 367.",
        "split val has 1 example; the published one has 101.",
    ]
