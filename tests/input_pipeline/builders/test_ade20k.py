import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.evaluation import submission
from danet_jax.input_pipeline.builders import ade20k
from tests.input_pipeline.ade20k import GREY, NAMES, write_ade20k

LABEL = "annotations/training/ADE_train_00000001.png"
IMAGE = "images/training/ADE_train_00000001.jpg"


@pytest.fixture
def source(tmp_path):
    return write_ade20k(tmp_path / "ADEChallengeData2016")


def prepare(source, folder):
    return input_pipeline.prepare("ade20k", data_dir=folder / "data", source=source)


def refusal(source, folder):
    with pytest.raises(DataError) as caught:
        prepare(source, folder)
    assert not list((folder / "data").glob("*/[!.]*"))
    return str(caught.value)


def test_ids_and_classes():
    assert {0: 255, **{raw: raw - 1 for raw in range(1, 151)}} == ade20k.ID_MAP
    labels = input_pipeline.labels_of("ade20k", data_dir="data")
    assert labels.num_classes == 150
    assert labels.raw_ids == tuple(range(1, 151))
    assert labels.names[:5] == ("wall", "building", "sky", "floor", "tree")
    assert labels.names[89:92] == ("television", "airplane", "dirt track")
    assert labels.names[149] == "flag"
    assert labels.colors[:3] == ((120, 120, 120), (180, 120, 120), (6, 230, 230))
    assert labels.colors[12] == (150, 5, 61)
    assert labels.colors[149] == (92, 0, 255)
    # As in the benchmark's own table.
    assert labels.colors[6] == labels.colors[48] == (140, 140, 140)
    assert len(set(labels.colors)) == 149


def test_records(source, tmp_path):
    assert prepare(source, tmp_path) == {"train": 3, "val": 2}
    for split, folder in (("train", "training"), ("val", "validation")):
        examples = input_pipeline.open_split("ade20k", split, data_dir=tmp_path / "data")
        assert examples.has_labels
        for index, name in enumerate(NAMES[folder]):
            file = source / "images" / folder / f"{name}.jpg"
            assert examples._records[index]["image"] == file.read_bytes()
            example = examples[index]
            assert example["id"] == name
            raw = np.asarray(Image.open(source / "annotations" / folder / f"{name}.png"))
            if index:
                assert set(np.unique(raw)) == set(range(151))
            expected = np.where(raw == 0, 255, raw.astype(int) - 1)
            np.testing.assert_array_equal(example["label"], expected)


def test_grey_photographs_become_rgb(source, tmp_path):
    prepare(source, tmp_path)
    example = input_pipeline.open_split("ade20k", "train", data_dir=tmp_path / "data")[2]
    assert example["id"] == GREY
    grey = np.asarray(Image.open(source / "images" / "training" / f"{GREY}.jpg"))
    assert grey.ndim == 2
    np.testing.assert_array_equal(example["image"], np.stack([grey] * 3, -1))


def test_test_images_have_no_labels(source, tmp_path):
    (source / "images" / "testing").mkdir()
    for number in (1, 2):
        Image.new("RGB", (40, 24)).save(source / f"images/testing/ADE_test_{number:08d}.jpg")
    assert prepare(source, tmp_path) == {"train": 3, "val": 2, "test": 2}
    split = input_pipeline.open_split("ade20k", "test", data_dir=tmp_path / "data")
    assert not split.has_labels
    assert split.id(1) == "ADE_test_00000002"
    assert split[1]["label"].shape == (24, 40)


def test_submission_is_in_the_servers_ids(tmp_path):
    labels = input_pipeline.labels_of("ade20k", data_dir="data")
    form = submission.format_of("ade20k")
    folder = tmp_path / "submission"
    made = submission.Submission(folder, form, ids=labels.raw_ids, colors=labels.colors)
    made.write("ADE_test_00000001", np.arange(150, dtype=np.uint8).reshape(10, 15))
    written = np.asarray(Image.open(folder / "ADE_test_00000001.png"))
    np.testing.assert_array_equal(written, np.arange(1, 151).reshape(10, 15))


def test_counts_that_differ_from_the_published_ones_are_told(source, tmp_path):
    prepare(source, tmp_path)
    found = input_pipeline.survey_of("ade20k", data_dir=tmp_path / "data")
    assert found.warnings[:2] == [
        "split train has 3 examples; the published one has 20210.",
        "split val has 2 examples; the published one has 2000.",
    ]
    assert found.splits["val"].sizes == {"120x96": 1, "120x104": 1}


# --- damage --------------------------------------------------------------------------------------


def open_label(source):
    return Image.open(source / LABEL)


def damage_missing_label(source):
    (source / LABEL).unlink()


def damage_size(source):
    open_label(source).crop((0, 0, 119, 96)).save(source / LABEL)


def damage_colors(source):
    palette = np.array([(0, 0, 0), *(color for _, color in ade20k.CLASSES)], np.uint8)
    Image.fromarray(palette[np.asarray(open_label(source)) % 10]).save(source / LABEL)


def damage_three_channels(source):
    open_label(source).convert("RGB").save(source / LABEL)


def damage_reduced(source):
    for file in (source / "annotations").rglob("*.png"):
        # 0 becomes 255, as mmsegmentation's reduce_zero_label does.
        Image.fromarray(np.asarray(Image.open(file)) - np.uint8(1)).save(file)


def damage_unknown_id(source):
    ids = np.asarray(open_label(source)).copy()
    ids[0] = 151
    Image.fromarray(ids).save(source / LABEL)


def resize(source, method):
    """Enlarges a label, as where images and labels go through the same function."""
    label = open_label(source)
    small = label.resize((90, 72), Image.Resampling.NEAREST)
    small.resize(label.size, method).save(source / LABEL)


def damage_swapped_folders(source):
    (source / "images").rename(source / "aside")
    (source / "annotations").rename(source / "images")
    (source / "aside").rename(source / "annotations")


def damage_swapped_contents(source):
    photograph = np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8)
    Image.fromarray(photograph).save(source / LABEL)
    Image.new("L", (120, 96), 7).save(source / IMAGE)


def damage_no_validation(source):
    (source / "images" / "validation").rename(source / "images" / "val")


def damage_torn_image(source):
    (source / IMAGE).write_bytes((source / IMAGE).read_bytes()[:-900])


def damage_cmyk_image(source):
    Image.new("CMYK", (120, 96)).save(source / IMAGE)


NOT_REDUCED = (
    "give the annotations of ADEChallengeData2016.zip as they are, 0 for other objects and 1 to "
    "150 for the classes, not reduced by one"
)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_missing_label, [f"  {LABEL}: missing"]),
        (damage_size, [f"  {LABEL}: 119x96, but its image is 120x96"]),
        (
            damage_colors,
            [
                f"  {LABEL}: mode RGB; labels are one 8-bit channel of ids",
                f"1 label ({LABEL}) is painted in colours, as palette images are that were "
                "converted to RGB. Give files of ids, a palette image's indices; or name the "
                "colour of each class in classes.txt of data set `folder`.",
            ],
        ),
        (
            damage_three_channels,
            [
                f"  {LABEL}: mode RGB; labels are one 8-bit channel of ids",
                f"1 label ({LABEL}) holds ids, but in three equal channels. Save one "
                'channel, Image.open(FILE).convert("L").',
            ],
        ),
        (
            damage_unknown_id,
            [
                f"  {LABEL}: label ids 151; known are 0-150",
                f"Id 151 belongs to no class, and is not ignored (1 label ({LABEL})): "
                f"{NOT_REDUCED}.",
            ],
        ),
        (
            damage_swapped_contents,
            [
                f"  {LABEL}: mode RGB; labels are one 8-bit channel of ids",
                f"1 label ({LABEL}) has a photograph's many values, and the images look like "
                "labels: images and labels seem to be swapped. Exchange the two folders.",
            ],
        ),
        (
            damage_no_validation,
            [
                "  images/validation: no images (*.jpg); the source is "
                + ade20k.Ade20k.MANUAL_DOWNLOAD_INSTRUCTIONS
            ],
        ),
        (damage_cmyk_image, [f"  {IMAGE}: mode CMYK; images are 8-bit RGB"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_damage_is_named(source, tmp_path, damage, says):
    damage(source)
    lines = refusal(source, tmp_path).splitlines()
    assert lines == [
        f"ade20k: 1 problem in {source}; it is not prepared.",
        *says,
        "Correct or fetch these files again, then repeat the prepare command.",
    ]


def test_labels_that_were_reduced_by_one(source, tmp_path):
    damage_reduced(source)
    lines = refusal(source, tmp_path).splitlines()
    assert lines[0] == f"ade20k: 5 problems in {source}; it is not prepared."
    assert lines[1] == f"  {LABEL}: label ids 255; known are 0-150"
    files = ", ".join(f"annotations/training/{name}.png" for name in NAMES["training"])
    assert lines[6] == (
        f"5 labels ({files}, …) were converted to train ids already (0 to 149 and 255): "
        f"{NOT_REDUCED}."
    )


def test_swapped_folders(source, tmp_path):
    damage_swapped_folders(source)
    lines = refusal(source, tmp_path).splitlines()
    assert lines[1:3] == [
        f"  images/{folder}: no images (*.jpg) but *.png, and annotations/{folder} holds *.jpg: "
        "images and labels seem to be swapped; exchange the two folders"
        for folder in ("training", "validation")
    ]


def test_torn_image(source, tmp_path):
    damage_torn_image(source)
    assert refusal(source, tmp_path).splitlines()[1].startswith(f"  {IMAGE}: does not decode (")


INTERPOLATED = (
    f"1 label ({LABEL}) seems to have been resized with interpolation: along edges are values "
    "that lie between those of both sides and mean nothing. Start again from the originals, "
    "and resize labels with NEAREST only."
)


def test_resized_labels_with_other_ids_are_refused(source, tmp_path):
    # Cubic curves overshoot.
    resize(source, Image.Resampling.BICUBIC)
    lines = refusal(source, tmp_path).splitlines()
    assert lines[1].startswith(f"  {LABEL}: label ids 151, ")
    assert lines[2].startswith("Ids 151, ")
    assert lines[2].endswith(f"({LABEL})): {NOT_REDUCED}.")


def test_resized_labels_of_known_ids_are_told(source, tmp_path):
    resize(source, Image.Resampling.BILINEAR)
    assert prepare(source, tmp_path) == {"train": 3, "val": 2}
    found = input_pipeline.survey_of("ade20k", data_dir=tmp_path / "data")
    assert found.warnings[0] == INTERPOLATED
