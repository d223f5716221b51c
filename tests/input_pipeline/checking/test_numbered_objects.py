"""Numbers of objects where ids of classes are meant, also where each number is a class's id."""

import numpy as np
import pytest

from tests.input_pipeline.folder import (
    HEIGHT,
    WIDTH,
    draw_image,
    save,
    warnings_of,
    write_classes,
)

CLASSES = 20


def write(folder, contents):
    """Twelve or so images; `contents` gives the numbers in each label, a column of pixels each."""
    for index, numbers in enumerate(contents):
        split = "val" if index % 4 == 3 else "train"
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        label = np.zeros((HEIGHT, WIDTH), np.uint8)
        for column, number in enumerate(numbers):
            label[4:, column] = number
        save(folder / "images" / split / f"{index:02}.png", draw_image(index))
        save(folder / "labels" / split / f"{index:02}.png", label)
    write_classes(folder, [{"name": f"class {id}", "ids": [id]} for id in range(CLASSES)])
    return folder


def told(source):
    return [warning for warning in warnings_of(source) if "instances" in warning]


def upto(*ends):
    return [range(1, end + 1) for end in ends]


def test_numbers_of_objects_within_the_classes_are_told(tmp_path):
    source = write(tmp_path / "mine", upto(3, 7, 2, 5, 9, 4, 6, 3, 8, 1, 0, 5))
    (warning,) = told(source)
    assert warning == (
        "10 labels (labels/train/00.png, labels/train/01.png, labels/train/02.png, …) hold "
        "1, 2, 3, … without a gap, and end at different numbers (2 to 9), as if the objects of "
        "each image were numbered (instances). If that is so, give every object the id of its "
        "class; nothing can be learned from such numbers."
    )


@pytest.mark.parametrize(
    "contents",
    [
        # A background and one class; three levels, each of which lies in the one below.
        upto(*[0, 1] * 8),
        upto(*[0, 1, 2, 3] * 8),
        # All classes but the last, which few images have.
        upto(*[8] * 12, 9, 7, 6, 5),
        # Classes by their frequency, as in street scenes: a gap in every tenth label.
        [*upto(3, 7, 2, 5, 9, 4, 6, 3, 8), [1, 2, 3, 5]],
        # Some of twenty classes each.
        [np.random.default_rng(seed).choice(range(1, 20), 6, replace=False) for seed in range(16)],
        # Too few to tell.
        upto(3, 7, 2, 5, 9, 4, 6, 8),
    ],
)
def test_classes_are_not_taken_for_numbers_of_objects(tmp_path, contents):
    assert told(write(tmp_path / "mine", contents)) == []
