import numpy as np
import pytest
import scipy.io

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import pascal_context
from tests.input_pipeline.pascal_context import (
    NAMES,
    SORTED_IDS,
    draw_categories,
    make_detail,
    write_detail,
    write_images,
    write_lists,
    write_matlab,
)

# Both of open-mmlab/mmsegmentation, mmseg/datasets/pascal_context.py: as it is, and in its first
# form, at 0999c55.
ALPHABETICAL = (
    "aeroplane", "bag", "bed", "bedclothes", "bench", "bicycle", "bird", "boat", "book", "bottle",
    "building", "bus", "cabinet", "car", "cat", "ceiling", "chair", "cloth", "computer", "cow",
    "cup", "curtain", "dog", "door", "fence", "floor", "flower", "food", "grass", "ground", "horse",
    "keyboard", "light", "motorbike", "mountain", "mouse", "person", "plate", "platform",
    "pottedplant", "road", "rock", "sheep", "shelves", "sidewalk", "sign", "sky", "snow", "sofa",
    "table", "track", "train", "tree", "truck", "tvmonitor", "wall", "water", "window", "wood",
)  # fmt: skip
VOC_FIRST = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    "bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup",
    "door", "fence", "floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain",
    "mouse", "curtain", "platform", "sign", "plate", "road", "rock", "shelves", "sidewalk", "sky",
    "snow", "bedclothes", "track", "tree", "truck", "wall", "water", "window", "wood",
)  # fmt: skip
VARIANTS = ("59_alphabetical", "60_alphabetical", "59_voc_first", "60_voc_first")


@pytest.fixture
def root(tmp_path):
    """VOC 2010 without labels of PASCAL Context."""
    return write_images(tmp_path / "VOCdevkit" / "VOC2010")


@pytest.fixture
def source(root):
    """With the .mat files."""
    write_matlab(root / "trainval")
    return root


@pytest.fixture
def detail(root):
    """With the JSON file."""
    write_detail(root / "trainval_merged.json")
    return root


def prepare(source, data_dir, variant="59_alphabetical"):
    return input_pipeline.prepare(f"pascal_context/{variant}", data_dir=data_dir, source=source)


def open_split(split, data_dir, variant="59_alphabetical"):
    return input_pipeline.open_split(f"pascal_context/{variant}", split, data_dir=data_dir)


def train_ids(variant):
    """Raw id to train id as the papers number the classes of each variant."""
    names = ("background", *ALPHABETICAL)
    ids = dict(zip(SORTED_IDS, names, strict=True))
    number, _, order = variant.partition("_")
    classes = list(ALPHABETICAL if order == "alphabetical" else VOC_FIRST)
    if number == "60":
        classes.insert(0, "background")
    others = 0 if number == "60" else 255
    named = {id: classes.index(name) for id, name in ids.items() if name in classes}
    return {**dict.fromkeys(range(460), others), **named}


def test_ids_of_the_alphabetical_order():
    ids_60 = pascal_context.VARIANTS["60_alphabetical"]
    assert ids_60 == SORTED_IDS
    assert len(ids_60) == 60
    # 59 classes: one less than in 60, and 0 is ignored.
    assert pascal_context.VARIANTS["59_alphabetical"] == SORTED_IDS[1:]
    assert list(SORTED_IDS) == sorted(SORTED_IDS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_classes_of_a_variant(variant, tmp_path):
    labels = input_pipeline.labels_of(f"pascal_context/{variant}", data_dir=tmp_path)
    expected = ALPHABETICAL if "alphabetical" in variant else VOC_FIRST
    expected = ("background", *expected) if variant.startswith("60") else expected
    assert labels.names == expected
    raw = dict(zip(labels.names, labels.raw_ids, strict=True))
    assert raw["aeroplane"] == 2
    assert raw["table"] == 397
    assert raw["wood"] == 458
    assert raw.get("background", 0) == 0
    # A class has one colour in all variants, VOC's classes those of VOC.
    colors = dict(zip(labels.names, labels.colors, strict=True))
    assert colors["aeroplane"] == (128, 0, 0)
    assert colors["tvmonitor"] == (0, 64, 128)
    assert colors["bag"] == (128, 64, 128)
    assert len(set(colors.values())) == len(expected)


def test_a_variant_is_asked_for(tmp_path):
    with pytest.raises(DataError, match="name its variant, one of pascal_context/59_alphabetical"):
        input_pipeline.labels_of("pascal_context", data_dir=tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_records_of_a_variant(variant, source, tmp_path):
    assert prepare(source, tmp_path / "data", variant) == {"train": 3, "val": 2}
    table = train_ids(variant)
    for split, names in NAMES.items():
        examples = open_split(split, tmp_path / "data", variant)
        assert [examples.id(index) for index in range(len(examples))] == list(names)
        for index, name in enumerate(names):
            stored = examples._records[index]["image"]
            assert stored == (source / "JPEGImages" / f"{name}.jpg").read_bytes()
            categories = draw_categories(name)
            assert {0, 2, 459} <= set(categories.ravel().tolist())
            expected = np.vectorize(table.get)(categories)
            np.testing.assert_array_equal(examples[index]["label"], expected)


def test_all_ids_come_out_as_they_should(source, tmp_path):
    raw = np.zeros((24, 36), np.uint16)
    raw.flat[:460] = range(460)
    scipy.io.savemat(source / "trainval/2008_000002.mat", {"LabelMap": raw})
    expected = {id: index for index, id in enumerate(SORTED_IDS)}
    prepare(source, tmp_path / "data", "60_alphabetical")
    label = open_split("train", tmp_path / "data", "60_alphabetical")[0]["label"]
    assert label.flat[:460].tolist() == [expected.get(id, 0) for id in range(460)]
    prepare(source, tmp_path / "data", "59_alphabetical")
    label = open_split("train", tmp_path / "data", "59_alphabetical")[0]["label"]
    assert label.flat[:460].tolist() == [expected.get(id, 0) - 1 & 255 for id in range(460)]


@pytest.mark.parametrize("variant", ["59_voc_first", "60_alphabetical"])
def test_both_forms_give_the_same_records(variant, tmp_path):
    folders = []
    for form in ("matlab", "json"):
        root = write_images(tmp_path / form / "VOC2010")
        if form == "matlab":
            write_matlab(root / "trainval")
        else:
            write_detail(root / "trainval_merged.json")
        assert prepare(root, tmp_path / form / "data", variant) == {"train": 3, "val": 2}
        folders.append(tmp_path / form / "data")
    for split in NAMES:
        one, other = (open_split(split, folder, variant) for folder in folders)
        for index in range(len(one)):
            assert one._records[index] == other._records[index]
            assert len(np.unique(one[index]["label"])) > 10


@pytest.mark.parametrize("given", [".", "VOCdevkit", "VOCdevkit/VOC2010"])
@pytest.mark.parametrize("place", ["VOCdevkit", "VOCdevkit/VOC2010"])
def test_labels_lie_in_the_folder_or_beside_it(given, place, root, tmp_path):
    write_detail(tmp_path / place / "trainval_merged.json")
    assert prepare(tmp_path / given, tmp_path / "data") == {"train": 3, "val": 2}


def test_matlab_files_count_where_both_are(source, tmp_path):
    write_detail(source / "trainval_merged.json", {})
    assert prepare(source, tmp_path / "data") == {"train": 3, "val": 2}


def test_lists_that_others_write(source, tmp_path):
    (source / "ImageSets/Main").rename(tmp_path / "Main")
    short = {"train": NAMES["train"][:2], "val": NAMES["val"]}
    write_lists(source / "ImageSets/SegmentationContext", short)
    assert prepare(source, tmp_path / "data") == {"train": 2, "val": 2}


def test_other_counts_than_the_published_are_told(detail, tmp_path):
    prepare(detail, tmp_path / "data")
    survey = input_pipeline.survey_of("pascal_context/59_alphabetical", data_dir=tmp_path / "data")
    assert "split train has 3 examples; the published one has 4998." in survey.warnings
    assert "split val has 2 examples; the published one has 5105." in survey.warnings


def test_another_json_is_not_taken_for_the_kept_shards(detail, tmp_path):
    """What an interrupted preparation wrote is taken over from the same file only."""
    file = detail / "trainval_merged.json"
    content = make_detail()
    content["annos_segmentation"][0]["segmentation"]["counts"] = "1"
    write_detail(file, content)
    with pytest.raises(DataError, match="do not cover 36x24 pixels"):
        prepare(detail, tmp_path / "data")
    content = make_detail()
    for mask in content["annos_segmentation"]:
        mask["category_id"] = 440
    write_detail(file, content)
    prepare(detail, tmp_path / "data")
    for split in NAMES:
        for example in open_split(split, tmp_path / "data"):
            assert set(np.unique(example["label"]).tolist()) == {55, 255}


def damage_missing_label(source):
    (source / "trainval/2008_000007.mat").unlink()


def damage_torn_mat(source):
    file = source / "trainval/2008_000007.mat"
    file.write_bytes(file.read_bytes()[:-40])


def damage_field(source):
    scipy.io.savemat(source / "trainval/2008_000007.mat", {"S": draw_categories("2008_000007")})


def damage_id(source):
    ids = draw_categories("2008_000007")
    ids[:2] = 460
    scipy.io.savemat(source / "trainval/2008_000007.mat", {"LabelMap": ids})


def damage_negative(source):
    ids = draw_categories("2008_000007").astype(np.int16)
    ids[:2] = -1
    scipy.io.savemat(source / "trainval/2008_000007.mat", {"LabelMap": ids})


def damage_size(source):
    content = {"LabelMap": draw_categories("2008_000007").T}
    scipy.io.savemat(source / "trainval/2008_000007.mat", content)


def damage_missing_image(source):
    (source / "JPEGImages/2008_000007.jpg").unlink()


def damage_no_list(source):
    (source / "ImageSets/Main/val.txt").unlink()


def damage_no_labels(source):
    (source / "trainval").rename(source / "labels")


def damage_no_images(source):
    (source / "JPEGImages").rename(source / "Images")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_missing_label, "trainval/2008_000007.mat: missing"),
        (damage_torn_mat, "trainval/2008_000007.mat: does not decode"),
        (damage_field, "trainval/2008_000007.mat: holds no map LabelMap of ids"),
        (damage_id, "trainval/2008_000007.mat: label ids 460; known are 0-459"),
        (damage_id, "give labels in the 459 categories of the distribution, not converted ones"),
        (damage_negative, "trainval/2008_000007.mat: LabelMap holds other values than ids"),
        (damage_size, "trainval/2008_000007.mat: 24x30, but its image is 30x24"),
        (damage_missing_image, "JPEGImages/2008_000007.jpg: missing"),
        (damage_no_list, "ImageSets/Main/val.txt: missing; the source is VOCdevkit/VOC2010"),
        (damage_no_labels, "trainval/*.mat and trainval_merged.json: missing; the source is VOC"),
        (damage_no_images, "JPEGImages: missing; the source is VOCdevkit/VOC2010"),
    ],
)
def test_damage_is_found(damage, says, source, tmp_path):
    damage(source)
    with pytest.raises(DataError) as caught:
        prepare(source, tmp_path / "data")
    assert says in str(caught.value)
    assert "pascal_context: 1 problem in" in str(caught.value)
    assert not list((tmp_path / "data").glob("pascal_context/[!.]*/[!.]*"))
