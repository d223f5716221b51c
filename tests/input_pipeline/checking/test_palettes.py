"""Palette labels whose colours are numbered anew in each file, as by "optimum palettes"."""

import numpy as np
import pytest
from PIL import Image

from danet_jax.input_pipeline.labels import standard_color
from tests.input_pipeline.folder import (
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

BLACK, RED, GREEN, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)
COLORS = {0: BLACK, 1: RED, 2: GREEN, 255: WHITE}
FIRST, SECOND = "labels/train/photo_0", "labels/train/photo_1"


def with_palette(indices, *colors):
    image = Image.fromarray(np.asarray(indices, np.uint8)).copy()
    image.putpalette([value for color in colors for value in color])
    assert image.mode == "P"
    return image


def painted(label, order=(0, 1, 2, 255)):
    """A map of ids in COLORS, whose palette has them in an order."""
    places = np.zeros(256, np.uint8)
    places[list(order)] = range(len(order))
    return with_palette(places[label], *(COLORS[id] for id in order))


def folder(tmp_path, change, extension=".png", **options):
    """A source; `change` makes a label file of a map of ids and the number of its file."""
    source = write_folder(tmp_path / "mine")
    for number, (split, name, seed) in enumerate(pairs()):
        (source / "labels" / split / f"{name}.png").unlink()
        file = source / "labels" / split / f"{name}{extension}"
        save(file, change(draw_label(seed), number), **options)
    return source


def areas(label):
    """Without 255, which no class is."""
    return np.where(label == 255, 0, label).astype(np.uint8)


def optimum(label, number):
    """Black, red, green in the first file; black, green, red in the second."""
    return painted(areas(label), (0, 1, 2) if number % 2 == 0 else (0, 2, 1))


@pytest.mark.parametrize("extension", [".png", ".gif", ".tif", ".bmp"])
def test_other_numbers_of_the_same_colours_are_refused(tmp_path, extension):
    source = folder(tmp_path, optimum, extension)
    said = refused(source)
    first, second = FIRST + extension, SECOND + extension
    assert f"palettes differ: index 1 is {RED} in {first} and {GREEN} in {second}" in said
    assert "give each class its colour, in classes.txt or classes.json" in said
    assert "1 problem in" in said


def test_the_cure_is_right(tmp_path):
    """Colours in the list of classes, and labels in RGB."""
    source = folder(tmp_path, optimum)
    refused(source)
    colors = (BLACK, RED, GREEN)
    write_classes(source, [{"name": str(id), "color": list(c)} for id, c in enumerate(colors)])
    for file in source.glob("labels/*/*.png"):
        save(file, Image.open(file).convert("RGB"))
    prepare(source)
    assert_stored(source, areas)


def test_the_other_cure_is_right(tmp_path):
    """Where the indices are right, they are saved alone."""
    shades = np.random.default_rng(0).integers(1, 256, (6, 256, 3)).tolist()
    source = folder(tmp_path, lambda label, number: with_palette(label, *shades[number]))
    assert "palettes differ: index 0 is" in refused(source)
    for file in source.glob("labels/*/*.png"):
        save(file, Image.fromarray(np.asarray(Image.open(file))))
    prepare(source)
    assert_stored(source)


@pytest.mark.parametrize("extension", [".png", ".gif"])
def test_classes_of_other_shades_are_no_help(tmp_path, extension):
    source = folder(tmp_path, optimum, extension)
    shades = ((9, 9, 0), (250, 0, 0), (0, 250, 0))
    write_classes(source, [{"name": str(id), "color": list(c)} for id, c in enumerate(shades)])
    assert f"palettes differ: index 1 is {RED}" in refused(source)


def test_a_colour_at_two_indices_that_never_meet(tmp_path):
    """The second file has red at 2 and nothing at 1."""

    def change(label, number):
        if number == 0:
            return with_palette(label == 1, BLACK, RED)
        return with_palette(2 * (label == 1), BLACK, GREEN, RED)

    source = folder(tmp_path, change)
    said = refused(source)
    assert f"the colour {RED} has index 1 in {FIRST}.png and index 2 in {SECOND}.png" in said


def test_files_without_the_background(tmp_path):
    """The only colour of a file is its index 0, whatever it stands for."""
    source = folder(
        tmp_path,
        lambda label, number: with_palette(0 * label, RED) if number == 5 else painted(label),
    )
    assert f"index 0 is {BLACK} in {FIRST}.png and {RED} in labels/val/photo_1.png" in refused(
        source
    )


def test_greys_in_another_order_are_no_ramp(tmp_path):
    """Grey ids 0, 1, 2 in a palette of only the greys that occur."""
    greys = [(value, value, value) for value in range(3)]

    def change(label, number):
        if number == 1:
            return with_palette(areas(label) == 2, greys[0], greys[2])
        return with_palette(areas(label), *greys)

    source = folder(tmp_path, change)
    said = refused(source)
    assert f"index 1 is (1, 1, 1) in {FIRST}.png and (2, 2, 2) in {SECOND}.png" in said


def test_a_mask_in_black_and_white_and_in_white_and_black(tmp_path):
    def change(label, number):
        if number == 3:
            return with_palette(label != 1, WHITE, BLACK)
        return with_palette(label == 1, BLACK, WHITE)

    said = refused(folder(tmp_path, change))
    assert f"index 0 is {BLACK} in {FIRST}.png and {WHITE} in labels/train/photo_3.png" in said


def test_grey_and_coloured_gifs(tmp_path):
    """A GIF of black alone is id 0, beside one in which black is 1."""

    def change(label, number):
        if number == 0:
            return with_palette(0 * label, BLACK, WHITE)
        return painted(areas(label), (1, 0, 2))

    said = refused(folder(tmp_path, change, ".gif"))
    assert f"index 0 is {BLACK} in {FIRST}.gif and {RED} in {SECOND}.gif" in said


def test_it_is_also_seen_after_an_interruption(tmp_path):
    source = folder(tmp_path, optimum)
    label = source / "labels/val/photo_1.png"
    whole = label.read_bytes()
    label.write_bytes(whole[:40])
    assert "does not decode" in refused(source)
    label.write_bytes(whole)
    assert list((source.parent / "data/folder/mine").glob(".partial-1.0.0/train-*.json"))
    assert f"index 1 is {RED} in {FIRST}.png" in refused(source)


# --- harmless ------------------------------------------------------------------------------------

STANDARD = [standard_color(index) for index in range(256)]


def even(count):
    return [(round(255 * index / (count - 1)),) * 3 for index in range(count)]


HARMLESS = {
    "PASCAL VOC's": lambda label, number: with_palette(label, *STANDARD),
    "VOC's, cut off behind what is used": lambda label, number: with_palette(
        areas(label), *STANDARD[: 3 + number]
    ),
    "unused colours differ": lambda label, number: with_palette(
        areas(label), BLACK, RED, GREEN, (number, 7, 7), (9, 9, number)
    ),
    "unused indices have used colours": lambda label, number: with_palette(
        areas(label), BLACK, RED, GREEN, (RED, GREEN)[number % 2]
    ),
    "all black": lambda label, number: with_palette(
        label, *(STANDARD if number % 2 else [BLACK] * 256)
    ),
    "all absent but the first": lambda label, number: with_palette(areas(label), *[BLACK] * 3),
    "even greys of any number": lambda label, number: with_palette(
        areas(label), *even((3, 4, 16, 256)[number % 4])
    ),
    "all 256 greys, as without a palette": lambda label, number: with_palette(
        label, *(STANDARD if number % 2 else even(256))
    ),
    "two classes without a colour": lambda label, number: with_palette(
        areas(label) if number % 2 else 2 * (label == 2), BLACK, RED, RED
    ),
    "void in any colour": lambda label, number: with_palette(
        label, *STANDARD[:255], ((224, 224, 192), WHITE, BLACK)[number % 3]
    ),
    "void as black as the background": lambda label, number: with_palette(
        label if number % 2 else areas(label), *STANDARD[:255], WHITE if number == 0 else BLACK
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_palettes_that_say_nothing_else_pass(tmp_path, name):
    source = folder(tmp_path, HARMLESS[name])
    prepare(source)
    for split in ("train", "val"):
        opened = open_split(source, split)
        seeds = [seed for of, _, seed in pairs() if of == split]
        for index, seed in enumerate(seeds):
            stored = np.asarray(Image.open(source / f"labels/{split}/photo_{index}.png"))
            np.testing.assert_array_equal(opened[index]["label"], stored)
            assert ((stored == 2) == (draw_label(seed) == 2)).all()
    assert not [warning for warning in survey_of(source).warnings if "palette" in warning]


def test_255_as_a_class_has_one_colour(tmp_path):
    source = folder(tmp_path, HARMLESS["void in any colour"])
    ids = (0, 1, 2, 255)
    write_classes(source, [{"name": str(id), "ids": [id]} for id in ids], ignore=[])
    said = refused(source)
    assert f"index 255 is (224, 224, 192) in {FIRST}.png and {WHITE} in {SECOND}.png" in said
