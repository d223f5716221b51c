"""A miniature of a user's own images: photographs, areas of three classes, and a list of these."""

import json

import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError

NAMES = ("road", "tree", "car")
COUNTS = {"train": 4, "val": 2}
HEIGHT, WIDTH = 24, 32


def draw_image(seed):
    """Noise, as no label has it."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def draw_label(seed):
    """Areas of 0, 1 and 2, and a corner of 255, at places that differ from seed to seed."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[4 + seed % 4 : 14, 3:20] = 1
    label[12:22, 16 + seed % 3 : 30] = 2
    label[20:, :4] = 255
    return label


def pairs():
    """(split, name, seed) of each example."""
    seeds = iter(range(100))
    return [
        (split, f"photo_{index}", next(seeds))
        for split, count in COUNTS.items()
        for index in range(count)
    ]


def write_folder(folder, *, change=lambda label: label):
    """Writes the miniature; `change` makes of each map of ids what is saved as its label."""
    for split, name, seed in pairs():
        image, label = folder / "images" / split, folder / "labels" / split
        image.mkdir(parents=True, exist_ok=True)
        label.mkdir(parents=True, exist_ok=True)
        save(image / f"{name}.png", draw_image(seed))
        save(label / f"{name}.png", change(draw_label(seed)))
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def write_classes(folder, classes, **other):
    """classes.json in place of classes.txt."""
    (folder / "classes.txt").unlink(missing_ok=True)
    (folder / "classes.json").write_text(json.dumps({"classes": classes, **other}))


def save(file, pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, **options)
    return file


def prepare(source, name="folder/mine", **options):
    return input_pipeline.prepare(name, data_dir=source.parent / "data", source=source, **options)


def open_split(source, split="train", name="folder/mine"):
    return input_pipeline.open_split(name, split, data_dir=source.parent / "data")


def refused(source):
    """What is said of a source that is not prepared."""
    with pytest.raises(DataError) as caught:
        prepare(source)
    with pytest.raises(DataError, match="is not prepared"):
        open_split(source)
    return str(caught.value)


def survey_of(source):
    return input_pipeline.survey_of("folder/mine", data_dir=source.parent / "data")


def assert_stored(source, expected=None):
    """All examples are the drawn ones."""
    for split in ("train", "val"):
        opened = open_split(source, split)
        seeds = [seed for of, _, seed in pairs() if of == split]
        assert len(opened) == len(seeds)
        for index, seed in enumerate(seeds):
            example = opened[index]
            assert example["id"] == f"photo_{index}"
            np.testing.assert_array_equal(example["image"], draw_image(seed))
            label = draw_label(seed) if expected is None else expected(draw_label(seed))
            np.testing.assert_array_equal(example["label"], label)


def as_ids(*ids):
    """Makes of 0, 1, 2 and 255 other ids."""
    table = np.zeros(256, np.uint8)
    table[[0, 1, 2, 255]] = ids
    return lambda label: table[label]


def warnings_of(source):
    prepare(source)
    return survey_of(source).warnings
