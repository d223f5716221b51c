import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.input_pipeline.builders import coco_stuff, coco_stuff_164k
from tests.input_pipeline.coco_stuff import (
    IDS,
    INTERPOLATED,
    NAMES_164K,
    REPEAT,
    filled,
    prepare,
    refusal,
    resized,
    write_coco_stuff_164k,
)

PNG = "annotations/train2017/000000000009.png"
# With every id.
FULL = "annotations/train2017/000000000025.png"


@pytest.fixture
def source(tmp_path):
    return write_coco_stuff_164k(tmp_path / "cocostuff")


TRAIN_IDS = np.array([IDS.index(id + 1) if id + 1 in IDS else 255 for id in range(256)])


def assert_prepared(source, labels, folder):
    assert prepare("coco_stuff_164k", source, folder) == {"train": 3, "val": 2}
    for split, year in (("train", "train2017"), ("val", "val2017")):
        examples = input_pipeline.open_split("coco_stuff_164k", split, data_dir=folder / "data")
        for index, name in enumerate(NAMES_164K[year]):
            example = examples[index]
            assert example["id"] == name
            raw = np.asarray(Image.open(labels / year / f"{name}.png"))
            np.testing.assert_array_equal(example["label"], TRAIN_IDS[raw])
            if index:
                assert set(np.unique(example["label"])) == {*range(171), 255}


def test_records(source, tmp_path):
    # What mmsegmentation's converter leaves beside the originals.
    for file in list((source / "annotations").rglob("*.png")):
        Image.new("L", (120, 96)).save(file.with_name(f"{file.stem}_labelTrainIds.png"))
    assert_prepared(source, source / "annotations", tmp_path)
    examples = input_pipeline.open_split("coco_stuff_164k", "val", data_dir=tmp_path / "data")
    file = source / "images/val2017/000000000139.jpg"
    assert examples._records[0]["image"] == file.read_bytes()


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (".", "annotations"),
        (".", "stuffthingmaps_trainval2017"),
        ("images", "annotations/stuffthingmaps_trainval2017"),
        (".", "stuffthingmaps"),
        ("images", "."),
        (".", "."),
    ],
)
def test_other_layouts(source, tmp_path, images, labels):
    other = tmp_path / "other"
    for kind, parent in (("images", images), ("annotations", labels)):
        for file in (source / kind).rglob("*.*"):
            target = other / parent / file.parent.name
            target.mkdir(parents=True, exist_ok=True)
            file.rename(target / file.name)
    assert_prepared(other, other / labels, tmp_path)


def edit(source, change, file=PNG):
    Image.fromarray(change(np.array(Image.open(source / file)))).save(source / file)


def damage_never_used(source):
    edit(source, lambda label: filled(label, 11))


def damage_converted(source):
    table = np.full(256, 255, np.uint8)
    table[[id - 1 for id in IDS]] = np.arange(171)
    edit(source, lambda label: table[label], FULL)


def damage_ids(source):
    edit(source, lambda label: label + np.uint8(1), FULL)


def damage_size(source):
    edit(source, lambda label: label[:-1])


def damage_missing(source):
    (source / PNG).unlink()


def damage_colors(source):
    palette = np.zeros((256, 3), np.uint8)
    palette[[id - 1 for id in IDS]] = coco_stuff.COLORS
    edit(source, lambda label: palette[np.minimum(label, 9)])


def damage_swapped_contents(source):
    photograph = np.random.default_rng(0).integers(0, 256, (96, 120), dtype=np.uint8)
    edit(source, lambda label: photograph)
    Image.new("RGB", (120, 96), (7, 7, 7)).save(source / "images/train2017/000000000009.jpg")


def damage_no_labels(source):
    (source / "annotations" / "val2017").rename(source / "annotations" / "val2017_aside")


def damage_no_images(source):
    (source / "images" / "train2017").rename(source / "images" / "train2014")


KNOWN = "0-10, 12-24, 26-27, 30-43, 45-64, 66, 69, 71-81, 83-89, 91-181, 255"
GIVE = (
    "give the maps of stuffthingmaps_trainval2017.zip as they are, which hold COCO's ids less one; "
    "*_labelTrainIds.png and other converted ones do not fit"
)
LAYOUT = coco_stuff_164k.CocoStuff164k.MANUAL_DOWNLOAD_INSTRUCTIONS


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            damage_never_used,
            [
                f"{PNG}: label ids 11; known are {KNOWN}",
                f"Id 11 belongs to no class, and is not ignored (1 label ({PNG})): {GIVE}.",
            ],
        ),
        (
            damage_converted,
            [
                f"{FULL}: label ids 11, 25, 28, 29, 44; known are {KNOWN}",
                f"1 label ({FULL}) was converted to train ids already (0 to 170 and 255): {GIVE}.",
            ],
        ),
        (
            damage_ids,
            [
                f"{FULL}: label ids 11, 25, 28, 44, 65; known are {KNOWN}",
                f"Ids 11, 25, 28, 44, 65 and 5 more belong to no class, and are "
                f"not ignored (1 label ({FULL})): {GIVE}.",
            ],
        ),
        (damage_size, [f"{PNG}: 120x95, but its image is 120x96"]),
        (damage_missing, [f"{PNG}: missing"]),
        (
            damage_colors,
            [
                f"{PNG}: mode RGB; labels are one 8-bit channel of ids",
                f"1 label ({PNG}) is painted in colours, as palette images are that were "
                "converted to RGB. Give files of ids, a palette image's indices; or name the "
                "colour of each class in classes.txt of data set `folder`.",
            ],
        ),
        (
            damage_swapped_contents,
            [
                f"{PNG}: label ids 11, 25, 28, 29, 44; known are {KNOWN}",
                f"1 label ({PNG}) has a photograph's many values, and the images look like "
                "labels: images and labels seem to be swapped. Exchange the two folders.",
            ],
        ),
        (
            damage_no_labels,
            [f"val2017: no labels (*.png) for the images; the source is {LAYOUT}"],
        ),
        (
            damage_no_images,
            [f"images/train2017: no images (*.jpg); the source is {LAYOUT}"],
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_is_named(source, tmp_path, damage, says):
    damage(source)
    assert refusal("coco_stuff_164k", source, tmp_path) == [
        f"coco_stuff_164k: 1 problem in {source}; it is not prepared.",
        f"  {says[0]}",
        *says[1:],
        REPEAT,
    ]


def test_swapped_folders(source, tmp_path):
    (source / "images").rename(source / "aside")
    (source / "annotations").rename(source / "images")
    (source / "aside").rename(source / "annotations")
    assert refusal("coco_stuff_164k", source, tmp_path)[1:3] == [
        f"  images/{folder}: no images (*.jpg) but *.png, and annotations/{folder} holds *.jpg: "
        "images and labels seem to be swapped; exchange the two folders"
        for folder in NAMES_164K
    ]


def test_interpolated_labels(source, tmp_path):
    edit(source, resized)
    lines = refusal("coco_stuff_164k", source, tmp_path)
    assert lines[1].startswith(f"  {PNG}: label ids ")
    assert lines[2:] == [f"1 label ({PNG}) {INTERPOLATED}", REPEAT]
