"""The usual mistakes, each planted in a miniature, and what `prepare` says of it."""

import cv2
import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import cityscapes
from danet_jax.input_pipeline.checking import mistakes
from danet_jax.input_pipeline.labels import standard_color
from tests.input_pipeline.cityscapes import write_cityscapes
from tests.input_pipeline.conftest import write_camvid
from tests.input_pipeline.folder import (
    HEIGHT,
    NAMES,
    WIDTH,
    as_ids,
    draw_label,
    refused,
    save,
    warnings_of,
    write_classes,
    write_folder,
)

FIRST = "labels/train/photo_0.png"
ALL = "6 labels (labels/train/photo_0.png, labels/train/photo_1.png, labels/train/photo_2.png, …)"
COLORS = ((128, 64, 128), (0, 128, 0), (0, 0, 200))
PAINTED = [{"name": name, "color": list(color)} for name, color in zip(NAMES, COLORS, strict=True)]
SAY_IN_JSON = 'say in classes.json which ids stand for each class, {"name": "road", "ids": [1]}'


def findings(source):
    """The sentences on the whole set, behind those on single files."""
    lines = refused(source).splitlines()
    assert lines[-1] == "Correct or fetch these files again, then repeat the prepare command."
    return [
        line.strip() for line in lines[1:-1] if ".png: " not in line and "more" not in line[:12]
    ]


def interpolate(label):
    """As a label becomes that is made smaller and larger again."""
    half = np.ascontiguousarray(label[::2, ::2])
    return cv2.resize(half, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def paint(label, colors=COLORS, ignored=(0, 0, 0)):
    table = np.zeros((256, 3), np.uint8)
    table[:3], table[255] = colors, ignored
    return table[label]


def as_palette(label, colors=COLORS):
    image = Image.fromarray(label).copy()
    image.putpalette(np.concatenate([np.array(colors, np.uint8).ravel(), np.zeros(759, np.uint8)]))
    return image


# --- clean sets ----------------------------------------------------------------------------------


def test_a_clean_set_gives_no_warning(tmp_path):
    assert warnings_of(write_folder(tmp_path / "mine")) == []


def test_clean_labels_in_other_ids_colours_and_forms_give_no_warning(tmp_path):
    for index, (change, classes, ignore) in enumerate(
        [
            (paint, PAINTED, [[0, 0, 0]]),
            (as_palette, PAINTED, [255]),
            (as_ids(7, 9, 8, 0), [{"name": str(id), "ids": [id]} for id in (7, 9, 8)], [0]),
            (lambda label: np.minimum(label, 1), [{"name": "a"}, {"name": "b"}], None),
        ]
    ):
        source = write_folder(tmp_path / str(index) / "mine", change=change)
        write_classes(source, classes, **({} if ignore is None else {"ignore": ignore}))
        assert warnings_of(source) == []


def test_thin_things_are_no_interpolation(tmp_path):
    def lines(label):
        label = label.copy()
        label[:, 5::6] = 1  # of one pixel, between 0 and 0, and between 0 and 2
        return label

    assert warnings_of(write_folder(tmp_path / "mine", change=lines)) == []


@pytest.mark.parametrize("width", range(1, 7))
def test_labels_of_few_columns_are_looked_at(width):
    raw = np.arange(12 * width).reshape(12, width) % 9
    arguments = {"known": np.arange(9), "colors": [(1, 2, 3)] * 9}
    assert mistakes.suspect_label(raw, np.array([77]), **arguments) == []


def test_clean_cityscapes_gives_no_warning_but_of_its_size(tmp_path):
    source = write_cityscapes(tmp_path / "mine", size=(96, 192))
    input_pipeline.prepare("cityscapes", data_dir=tmp_path, source=source)
    assert input_pipeline.survey_of("cityscapes", data_dir=tmp_path).warnings == [
        "split train has 3 examples; the published one has 2975.",
        "split val has 2 examples; the published one has 500.",
        "split test has 2 examples; the published one has 1525.",
    ]


# --- other ids -----------------------------------------------------------------------------------


def write_19_classes(tmp_path, ids):
    """The classes of Cityscapes; the labels of each file hold these ids, one a row."""
    source = write_folder(
        tmp_path / "mine", change=lambda label: np.resize(ids, (HEIGHT, WIDTH)).astype(np.uint8)
    )
    (source / "classes.txt").write_text("\n".join(cityscapes.NAMES))
    return source


def test_raw_label_ids_where_train_ids_belong(tmp_path):
    source = write_19_classes(tmp_path, np.arange(34))
    assert findings(source) == [
        f"{ALL} look like Cityscapes' raw labelIds (0 to 33), where train ids (0 to 18) are "
        f"expected: give the *_labelTrainIds.png files; or {SAY_IN_JSON}, and which for none, "
        '"ignore": [0, 255].'
    ]


def test_train_ids_are_what_19_classes_expect(tmp_path):
    assert warnings_of(write_19_classes(tmp_path, [*range(19), 255])) == []


@pytest.mark.parametrize("ids", [[*range(19), 255], [*range(19)]])
def test_train_ids_where_raw_label_ids_belong(tmp_path, ids):
    source = write_cityscapes(tmp_path / "cityscapes")
    files = sorted(source.glob("gtFine/[tv][ra]*/*/*_labelIds.png"))
    assert len(files) == 5
    for file in files:
        save(file, np.resize(ids, (24, 48)).astype(np.uint8))
    with pytest.raises(DataError) as caught:
        input_pipeline.prepare("cityscapes", data_dir=tmp_path / "data", source=source)
    said = str(caught.value)
    names = ", ".join(str(file.relative_to(source)) for file in files[:3])
    if 255 in ids:
        assert (
            f"5 labels ({names}, …) were converted to train ids already (0 to 18 and 255)" in said
        )
    else:
        assert f"5 labels ({names}, …) and all others seem to hold train ids (0 to 18) in" in said
    assert "give the distribution's own *_labelIds.png files." in said


def test_0_for_background_where_255_is_meant(tmp_path):
    assert findings(write_folder(tmp_path / "mine", change=as_ids(1, 2, 3, 0))) == [
        "Ids 0 to 3 occur, one more than are known: 0 or 3 stands for background or "
        f"unlabelled pixels, which are 255 here ({ALL}). If 3 does, make that into 255; if 0 does, "
        "make that into 255 and subtract 1 from all others but 255; or "
        f'{SAY_IN_JSON}, and which for none, "ignore": [0, 255].'
    ]


@pytest.mark.parametrize("ignored", [255, 1])
def test_ids_that_are_shifted_by_one(tmp_path, ignored):
    assert findings(write_folder(tmp_path / "mine", change=as_ids(1, 2, 3, ignored))) == [
        f"Ids 1 to 3 occur and never 0: they are shifted by one ({ALL}). Subtract 1 from all "
        f'but 255, or {SAY_IN_JSON}, and which for none, "ignore": [0, 255].'
    ]


def test_0_that_is_no_class_is_not_called_a_shift(tmp_path):
    source = write_folder(tmp_path / "mine", change=as_ids(0, 2, 2, 255))
    write_classes(source, [{"name": "a", "ids": [1]}, {"name": "b", "ids": [2]}])
    (finding,) = findings(source)
    assert finding.startswith("Id 0 belongs to no class, and is not ignored (6 labels")


def test_camvid_shifted_by_one(tmp_path):
    source = write_camvid(tmp_path / "CamVid")
    for file in source.glob("*annot/*.png"):
        save(file, np.asarray(Image.open(file)) + 1)
    with pytest.raises(DataError, match="Ids 1 to 12 occur and never 0: they are shifted by one"):
        input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=source)


def test_a_first_class_that_never_occurs(tmp_path):
    source = write_folder(tmp_path / "mine", change=as_ids(1, 2, 3, 255))
    (source / "classes.txt").write_text("sky\nroad\ntree\ncar\n")
    assert warnings_of(source) == [
        "class 0, 'sky', occurs nowhere: ids may be shifted by one; look at the samples of the "
        "report."
    ]


def test_ids_of_nothing(tmp_path):
    source = write_folder(tmp_path / "mine")
    label = draw_label(1)
    label[0, :3] = 77, 78, 200
    save(source / "labels/train/photo_1.png", label)
    said = refused(source)
    assert "labels/train/photo_1.png: label ids 77, 78, 200; known are 0-2, 255" in said
    assert (
        "Ids 77, 78, 200 belong to no class, and are not ignored (1 label (labels/train/photo_1."
        f"png)): {SAY_IN_JSON}"
    ) in said


def test_nothing_but_ignored_pixels(tmp_path):
    assert findings(write_folder(tmp_path / "mine", change=as_ids(255, 255, 255, 255))) == [
        "no label has a pixel of any class; all are 255, which is ignored: "
        f'{SAY_IN_JSON}, and which for none, "ignore": [0, 255].'
    ]


# --- other forms ---------------------------------------------------------------------------------


def test_painted_labels_without_a_list_of_colours(tmp_path):
    source = write_folder(tmp_path / "mine", change=paint)
    assert findings(source) == [
        f"{ALL} are painted in colours, as palette images are that were converted to RGB. Give "
        "files of ids, a palette image's indices; or name the colour of each class in classes.txt "
        "of data set `folder`."
    ]
    assert f"{FIRST}: mode RGB, but no class has a colour in the list of classes" in refused(source)


def test_ids_in_three_channels(tmp_path):
    source = write_folder(tmp_path / "mine", change=lambda label: np.stack([label] * 3, axis=-1))
    assert findings(source) == [
        f"{ALL} hold ids, but in three equal channels. Save one channel, "
        'Image.open(FILE).convert("L").'
    ]


@pytest.mark.parametrize("own", [True, False])
def test_a_palette_that_was_lost_to_grey(tmp_path, own):
    """In the classes' own colours, and in those that labelling tools give to any classes."""
    colors = COLORS if own else [standard_color(index) for index in range(3)]
    source = write_folder(
        tmp_path / "mine", change=lambda label: as_palette(label % 255, colors).convert("L")
    )
    if own:
        write_classes(source, PAINTED)
    assert findings(source) == [
        f"{ALL} hold the brightness of the classes' colours in place of ids: a palette image was "
        'converted to grey. Start from the palette files, and read their indices, mode "P".'
    ]


def test_a_palette_that_was_lost_to_rgb(tmp_path):
    source = write_folder(
        tmp_path / "mine", change=lambda label: as_palette(label % 255).convert("RGB")
    )
    (finding,) = findings(source)
    assert finding.startswith(f"{ALL} are painted in colours, as palette images are that were conv")
    # As it says:
    write_classes(source, PAINTED)
    assert warnings_of(source) == []


RESIZED = (
    "seem to have been resized with interpolation: along edges are values that lie between "
    "those of both sides and mean nothing. Start again from the originals, and resize labels "
    "with NEAREST only."
)


def test_labels_that_were_resized_with_interpolation(tmp_path):
    source = write_folder(
        tmp_path / "mine", change=lambda label: interpolate(as_ids(10, 60, 120, 255)(label))
    )
    classes = [{"name": name, "ids": [id]} for name, id in zip(NAMES, (10, 60, 120), strict=True)]
    write_classes(source, classes)
    assert findings(source) == [f"{ALL} {RESIZED}"]


def test_interpolation_between_known_ids_is_a_warning(tmp_path):
    source = write_folder(
        tmp_path / "mine", change=lambda label: interpolate(as_ids(10, 60, 120, 10)(label))
    )
    (source / "classes.txt").write_text("\n".join(f"class {id}" for id in range(150)))
    assert f"{ALL} {RESIZED}" in warnings_of(source)


def test_colours_that_were_resized_with_interpolation(tmp_path):
    source = write_folder(tmp_path / "mine", change=lambda label: interpolate(paint(label)))
    write_classes(source, PAINTED, ignore=[[0, 0, 0]])
    assert findings(source) == [f"{ALL} {RESIZED}"]


@pytest.mark.parametrize("form", ["L", "P", "RGB"])
def test_images_and_labels_that_are_swapped(tmp_path, form):
    change = {"L": lambda label: label, "P": as_palette, "RGB": paint}[form]
    source = write_folder(tmp_path / "mine", change=change)
    if form == "RGB":
        write_classes(source, PAINTED, ignore=[[0, 0, 0]])
    for split in ("train", "val"):
        (source / "images" / split).rename(source / "elsewhere")
        (source / "labels" / split).rename(source / "images" / split)
        (source / "elsewhere").rename(source / "labels" / split)
    assert findings(source) == [
        f"{ALL} have a photograph's many values, and the images look like labels: images and "
        "labels seem to be swapped. Exchange the two folders."
    ]


def test_images_and_labels_that_are_swapped_elsewhere(tmp_path):
    source = write_camvid(tmp_path / "CamVid")
    for split in ("train", "val"):
        (source / split).rename(source / "elsewhere")
        (source / f"{split}annot").rename(source / split)
        (source / "elsewhere").rename(source / f"{split}annot")
    with pytest.raises(
        DataError, match="have a photograph's many values, and the images look like labels"
    ):
        input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=source)
