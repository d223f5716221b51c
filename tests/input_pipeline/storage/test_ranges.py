"""Which examples two splits have in common."""

import pytest

from danet_jax.input_pipeline.storage import ranges

COUNTS = {"train": 10, "val": 5}


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("train", "val", 0),
        ("train+val", "val", 5),
        ("train[:80%]", "train[50%:]", 3),
        ("train[:4]", "train[4:]", 0),
        ("train[:-2]", "train[-4:]+val", 2),
        ("val", "val", 5),
    ],
)
def test_shared_examples(one, other, shared):
    assert ranges.shared(ranges.of(one, COUNTS), ranges.of(other, COUNTS)) == shared


@pytest.mark.parametrize(
    ("split", "repeated"),
    [("train", 0), ("val+val", 5), ("train+train[:2]", 2), ("train[:5]+train[5:]", 0)],
)
def test_repeated_examples(split, repeated):
    assert ranges.repeated(ranges.of(split, COUNTS)) == repeated
