"""A program's own examples: what they may be, and what is said of what they may not be."""

import pickle

import numpy as np
import pytest

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.configs import common
from danet_jax.input_pipeline import Examples
from danet_jax.input_pipeline.sampling import count_class_pixels

NAMES = ("wall", "door")


def pair(seed, size=(20, 30)):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    label = rng.integers(0, 3, size)
    return image, np.where(label == 2, 255, label)


PAIRS = [pair(seed, (20, 30) if seed % 2 else (24, 24)) for seed in range(6)]


def test_an_example_is_the_image_and_its_label():
    examples = Examples(PAIRS, NAMES, split="mine")
    assert len(examples) == 6
    for index, (image, label) in enumerate(PAIRS):
        example = examples[index]
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["label"], label)
        assert example["label"].dtype == np.uint8
        counts = [(label == 0).sum(), (label == 1).sum()]
        assert examples.class_pixels(index).tolist() == counts
    assert examples.sizes() == {(24, 24): 3, (20, 30): 3}
    assert examples.labels.colors == ((128, 0, 0), (0, 128, 0))
    with pytest.raises(IndexError):
        examples[6]


def test_a_stream_of_them_is_that_of_any_split():
    data = common.get_config().data
    data.crop_size = (16, 16)
    stream = input_pipeline.TrainingStream(Examples(PAIRS, NAMES), data, batch_size=2, seed=0)
    batch = next(stream)
    assert batch["image"].shape == (2, 16, 16, 3)
    assert set(np.unique(batch["label"])) <= {0, 1, 255}
    state = stream.get_state()
    stream.close()
    assert state["fingerprint"] == Examples(list(PAIRS), NAMES).fingerprint


def test_processes_get_them_whole():
    examples = pickle.loads(pickle.dumps(Examples(PAIRS, NAMES, split="mine")))
    assert repr(examples) == "Split('own', 'mine', 6 examples)"
    np.testing.assert_array_equal(examples[3]["image"], PAIRS[3][0])


def test_the_same_object_is_shared():
    one, other = Examples(PAIRS, NAMES), Examples(list(PAIRS), NAMES)
    assert one.shared_examples(Examples(PAIRS, NAMES)) == 6
    assert one.shared_examples(other) == 0


IMAGE, LABEL = PAIRS[0]
WRONG = {
    "no pair": (IMAGE, "example 0 of mine is a ndarray; give"),
    "one more": ((IMAGE, LABEL, 0), "example 0 of mine is a tuple"),
    "floats": ((IMAGE / 255, LABEL), r"image of float64 \[24, 24, 3\]; give uint8 RGB"),
    "grey": ((IMAGE[..., 0], LABEL), r"image of uint8 \[24, 24\]; give uint8 RGB"),
    "float labels": ((IMAGE, LABEL / 1), "label of float64"),
    "another size": ((IMAGE, LABEL[1:]), r"label of int64 \[23, 24\] for an image of \[24, 24\]"),
    "no class": ((IMAGE, LABEL * 0 + 2), "has the label 2, but the classes are 0 to 1"),
    "negative": ((IMAGE, LABEL * 0 - 1), "has the label -1"),
    "empty": ((IMAGE[:0], LABEL[:0]), r"has an image without pixels, \[0, 24, 3\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_example(name):
    example, says = WRONG[name]
    with pytest.raises(DataError, match=says):
        Examples([example], NAMES, split="mine")[0]


@pytest.mark.parametrize(
    ("pairs", "names", "says"),
    [
        ([], NAMES, "there is no example in own examples"),
        (iter(PAIRS), NAMES, "which has no __len__ and __getitem__"),
        (PAIRS, (), "0 classes"),
        (PAIRS, ("a", "a"), "more than once: a"),
        (PAIRS, "ab", "names is the text 'ab'"),
        # Their order is another one in each process, and ids may have any order.
        (PAIRS, {"a", "b"}, "names is a set: give a list"),
        (PAIRS, {0: "a", 1: "b"}, r"names is a mapping: .* list\(names\.values\(\)\)"),
        (PAIRS, (1, 2), "names holds 1, which is no text"),
    ],
)
def test_what_are_no_examples(pairs, names, says):
    with pytest.raises(DataError, match=says):
        Examples(pairs, names)


@pytest.mark.parametrize(
    "color", ["#ff0000", (1, 2), (0.2, 0.5, 1.0), (1.0, 0.0, 0.0), 7, (True, False, True)]
)
def test_what_is_no_colour(color):
    with pytest.raises(DataError, match="red, green and blue as whole numbers of 0 to 255"):
        Examples(PAIRS, NAMES, colors=[(1, 2, 3), color])
    numbers = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert Examples(PAIRS, NAMES, colors=numbers).labels.colors == ((1, 2, 3), (4, 5, 6))


def test_other_labels_are_other_examples():
    many = [pair(seed) for seed in range(40)]
    examples = Examples(many, NAMES)
    assert examples.is_same(Examples(list(many), NAMES, split="other name").identity) is False
    assert examples.is_same(Examples(list(many), NAMES).identity)
    # A label in the middle, at none of the indices whose images are compared.
    image, label = many[21]
    changed = [*many[:21], (image, 1 - label % 2), *many[22:]]
    assert not examples.is_same(Examples(changed, NAMES).identity)
    # Earlier versions noted less.
    assert examples.is_same({"next_batch": 3, "num_examples": 40})
    assert not examples.is_same({"num_examples": 39})


def test_a_dictionary_is_a_pair_too():
    example = Examples([{"image": IMAGE, "label": LABEL, "name": "x"}], NAMES)[0]
    np.testing.assert_array_equal(example["image"], IMAGE)


class Restless:
    """Another label each time."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return IMAGE, self.rng.integers(0, 2, LABEL.shape)


def test_examples_that_change_are_refused_before_a_run():
    Examples(PAIRS, NAMES).check_repeatable()
    with pytest.raises(DataError, match="not the same when it is read again"):
        Examples(Restless(), NAMES).check_repeatable()


def test_rare_classes_are_counted_without_a_folder():
    counts = count_class_pixels(Examples(PAIRS, NAMES))
    assert counts.tolist() == [[(l == 0).sum(), (l == 1).sum()] for _, l in PAIRS]
