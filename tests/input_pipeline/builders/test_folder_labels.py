import cv2
import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from tests.input_pipeline.folder import (
    HEIGHT,
    NAMES,
    WIDTH,
    assert_stored,
    draw_label,
    open_split,
    pairs,
    prepare,
    refused,
    save,
    survey_of,
    write_classes,
    write_folder,
)

COLORS = {0: (128, 64, 128), 1: (0, 128, 0), 2: (0, 0, 200), 255: (0, 0, 0)}
PAINTED = [{"name": name, "color": list(COLORS[id])} for id, name in enumerate(NAMES)]


@pytest.fixture
def source(tmp_path):
    return write_folder(tmp_path / "mine")


def paint(label):
    table = np.zeros((256, 3), np.uint8)
    for id, color in COLORS.items():
        table[id] = color
    return table[label]


def as_palette(label):
    image = Image.fromarray(label).copy()
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    assert image.mode == "P"
    return image


def test_palette_labels_are_read_as_indices(tmp_path):
    source = write_folder(tmp_path / "mine", change=as_palette)
    prepare(source)
    assert_stored(source)


def test_16_bit_labels_are_mapped_by_the_table(tmp_path):
    table = np.zeros(256, np.uint16)
    table[[0, 1, 2, 255]] = 40_000, 7, 65_535, 300
    for extension, order in ((".png", "<u2"), (".tif", "<u2"), (".tif", ">u2")):
        source = write_folder(tmp_path / f"mine{extension}{order[0]}")
        for split, name, seed in pairs():
            (source / "labels" / split / f"{name}.png").unlink()
            label = Image.fromarray(table[draw_label(seed)].astype(order))
            assert label.mode.startswith("I;16")
            save(source / "labels" / split / f"{name}{extension}", label)
        ids = (40_000, 7, 65_535)
        classes = [{"name": name, "ids": [id]} for name, id in zip(NAMES, ids, strict=True)]
        write_classes(source, classes, ignore=[300])
        input_pipeline.prepare("folder/mine", data_dir=source / "data", source=source)
        split = input_pipeline.open_split("folder/mine", "train", data_dir=source / "data")
        assert split.labels.raw_ids == ids
        for index in range(4):
            np.testing.assert_array_equal(split[index]["label"], draw_label(index))


def test_several_ids_are_one_class(source):
    write_classes(source, [{"name": "ground", "ids": [0, 1]}, {"name": "car", "ids": [2]}])
    prepare(source)
    table = np.arange(256, dtype=np.uint8)
    table[[1, 2]] = 0, 1
    assert_stored(source, lambda label: table[label])


def test_one_bit_labels_are_0_and_1(tmp_path):
    source = write_folder(tmp_path / "mine", change=lambda label: label == 1)
    (source / "classes.txt").write_text("background\ntree\n")
    with Image.open(source / "labels/train/photo_0.png") as file:
        assert file.mode == "1"
    prepare(source)
    assert_stored(source, lambda label: (label == 1).astype(np.uint8))


def as_floats(label):
    return Image.fromarray(label.astype(np.float32))


def as_gif_in_another_order(label):
    image = Image.fromarray(np.choose(np.minimum(label, 3), [2, 0, 1, 3]).astype(np.uint8))
    image.putpalette([*COLORS[1], *COLORS[2], *COLORS[0], *COLORS[255]] + [0] * 756)
    return image


@pytest.mark.parametrize(
    ("extension", "change"),
    [
        (".tif", as_floats),
        (".png", lambda label: Image.fromarray(label).convert("LA")),
        (".gif", lambda label: label),
        (".gif", as_gif_in_another_order),
    ],
)
def test_ids_in_other_containers(source, extension, change):
    write_classes(source, PAINTED, ignore=[255, [0, 0, 0]])
    for split, name, seed in pairs():
        (source / "labels" / split / f"{name}.png").unlink()
        save(source / "labels" / split / f"{name}{extension}", change(draw_label(seed)))
    prepare(source)
    assert_stored(source)


def test_masks_of_0_and_255(tmp_path):
    source = write_folder(
        tmp_path / "mine", change=lambda label: np.where(label == 1, 255, 0).astype(np.uint8)
    )
    (source / "classes.txt").write_text("background\ntree\n")
    said = refused(source)
    assert "6 labels (labels/train/photo_0.png, labels/train/photo_1.png, labels/train/" in said
    assert "hold 0 and 255, as masks do, but 255 is no class here. Name it as an id of" in said
    assert '{"name": "thing", "ids": [255]}, with "ignore": []' in said
    # As it says:
    classes = [{"name": "background"}, {"name": "thing", "ids": [255]}]
    write_classes(source, classes, ignore=[])
    prepare(source)
    assert_stored(source, lambda label: (label == 1).astype(np.uint8))


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_become_classes(tmp_path, extension, mode):
    source = write_folder(tmp_path / "mine")
    for split, name, seed in pairs():
        (source / "labels" / split / f"{name}.png").unlink()
        label = Image.fromarray(paint(draw_label(seed))).convert(mode)
        save(source / "labels" / split / f"{name}{extension}", label)
    classes = [entry | {"ids": [id + 20]} for id, entry in enumerate(PAINTED)]
    write_classes(source, classes, ignore=[[0, 0, 0]])
    prepare(source)
    assert_stored(source)
    assert survey_of(source).warnings == []


def test_unknown_colours_are_counted(tmp_path):
    source = write_folder(tmp_path / "mine", change=paint)
    write_classes(source, PAINTED)
    said = refused(source)
    pixels = int((draw_label(0) == 255).sum())
    assert pixels == 16
    assert f"photo_0.png: colours (0, 0, 0) ({pixels} pixels), which no class has" in said
    assert "6 labels (labels/train/photo_0.png, labels/train/photo_1.png, labels/train/" in said
    assert "hold colours that no class has. Name the colour of each class, three numbers" in said


def test_a_palette_that_says_otherwise_than_its_indices_is_refused(tmp_path):
    def reordered(label):
        image = Image.fromarray(np.choose(np.minimum(label, 3), [2, 0, 1, 3]).astype(np.uint8))
        image.putpalette([*COLORS[1], *COLORS[2], *COLORS[0], *COLORS[255]] + [0] * 756)
        return image

    source = write_folder(tmp_path / "mine", change=reordered)
    write_classes(source, PAINTED, ignore=[3, [0, 0, 0]])
    said = refused(source)
    assert "photo_0.png: index 0 has the colour of 'tree', (0, 128, 0), but is another id" in said
    # As it says:
    for file in source.glob("labels/*/*.png"):
        save(file, Image.open(file).convert("RGB"))
    prepare(source)
    assert_stored(source)


def test_one_colour_of_a_class_at_another_index_is_enough(tmp_path):
    def reordered(label):
        image = Image.fromarray(np.choose(np.minimum(label, 3), [2, 0, 1, 255]).astype(np.uint8))
        # The colour of 255 is no class's, and not named.
        image.putpalette([*COLORS[1], *COLORS[2], *COLORS[0]] + [224] * 759)
        return image

    source = write_folder(tmp_path / "mine", change=reordered)
    lines = [f"{name} {' '.join(map(str, COLORS[id]))}" for id, name in enumerate(NAMES)]
    (source / "classes.txt").write_text("\n".join(lines))
    assert "photo_0.png: index 0 has the colour of 'tree', (0, 128, 0)" in refused(source)


def test_a_jpeg_label_is_used_where_all_its_ids_are_known(source):
    (source / "labels/train/photo_1.png").unlink()
    save(source / "labels/train/photo_1.jpg", np.full((HEIGHT, WIDTH), 2, np.uint8))
    prepare(source)
    assert (open_split(source)[1]["label"] == 2).all()
    (warning,) = survey_of(source).warnings
    assert warning.startswith("1 label (labels/train/photo_1.jpg) is compressed as JPEG")


@pytest.mark.parametrize("painted", [False, True])
def test_a_jpeg_label_with_other_ids_is_refused(source, painted):
    write_classes(source, PAINTED)
    (source / "labels/train/photo_1.png").unlink()
    label = draw_label(1)
    file = save(source / "labels/train/photo_1.jpg", paint(label) if painted else label)
    said = refused(source)
    assert "1 label (labels/train/photo_1.jpg) is compressed as JPEG, which changes ids" in said
    assert "save labels as PNG" in said
    if not painted:
        with Image.open(file) as decoded:
            ids = sorted(set(np.unique(decoded).tolist()) - {0, 1, 2, 255})
        shown = ", ".join(map(str, ids[:5]))
        assert f"labels/train/photo_1.jpg: ids {shown}, which no class has, in a JPEG" in said


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (
            Image.new("F", (WIDTH, HEIGHT), 0.5),
            "floating-point numbers such as 0.5, which is no id",
        ),
        (Image.new("F", (WIDTH, HEIGHT), -9999), "floating-point numbers such as -9999, which"),
        (Image.new("F", (WIDTH, HEIGHT), float("nan")), "floating-point numbers such as nan"),
        (Image.new("I", (WIDTH, HEIGHT), 70_000), "ids 70000 to 70000; they are 0 to 65535"),
        (Image.new("I", (WIDTH, HEIGHT), -1), "ids -1 to -1; they are 0 to 65535"),
        (Image.new("RGBA", (WIDTH, HEIGHT), (0, 128, 0, 9)), "transparent; save it as RGB"),
        (Image.new("L", (WIDTH, HEIGHT + 1)), "32x25, but its image is 32x24"),
    ],
)
def test_labels_of_another_kind_are_refused(source, label, says):
    write_classes(source, PAINTED)
    (source / "labels/train/photo_1.png").unlink()
    save(source / "labels/train/photo_1.tif", label)
    assert f"labels/train/photo_1.tif: {says}" in refused(source)


def test_16_bit_colours_are_refused(source):
    write_classes(source, PAINTED)
    cv2.imwrite(str(source / "labels/train/photo_1.png"), np.zeros((HEIGHT, WIDTH, 3), np.uint16))
    assert "photo_1.png: 16-bit colours; save it with 8 bits" in refused(source)


def test_pages_are_refused(source):
    pages = [Image.fromarray(draw_label(seed)) for seed in range(2)]
    (source / "labels/train/photo_1.png").unlink()
    save(source / "labels/train/photo_1.tif", pages[0], save_all=True, append_images=pages[1:])
    assert "photo_1.tif: 2 pages; save only the page that is meant" in refused(source)


def test_other_colours_after_an_interruption(source, monkeypatch):
    """What was read by a former list of colours is not taken over."""
    for split, name, seed in pairs():
        save(source / "labels" / split / f"{name}.png", paint(draw_label(seed)))
    write_classes(source, PAINTED, ignore=[255, [0, 0, 0]])
    label = source / "labels/val/photo_1.png"
    whole = label.read_bytes()
    label.write_bytes(whole[:40])
    assert "does not decode" in refused(source)
    assert list((source.parent / "data/folder/mine").glob(".partial-1.0.0/train-*.json"))
    label.write_bytes(whole)
    exchanged = [
        {"name": name, "color": list(COLORS[id])} for name, id in zip(NAMES, (1, 0, 2), strict=True)
    ]
    write_classes(source, exchanged, ignore=[255, [0, 0, 0]])
    prepare(source)
    table = np.arange(256, dtype=np.uint8)
    table[[0, 1]] = 1, 0
    assert_stored(source, lambda label: table[label])
