"""A pass over a split, with a predictor whose answers are given."""

import numpy as np
import pytest

from danet_jax.base.errors import UserError
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.scoring import evaluate
from danet_jax.evaluation.settings import InferenceSettings


class Fixed(Predictor):
    """Predicts the red channel."""

    def __init__(self, merge):
        self.seen = 0
        self.settings = InferenceSettings(merge=merge)

    def labels(self, images):
        self.seen += len(images)
        return images[..., 0]


def example(truth, prediction):
    image = np.zeros((*np.shape(prediction), 3), np.uint8)
    image[..., 0] = prediction
    return image, np.array(truth, np.uint8)


# Four pixels each: 4 right of class 0; 1 right of 4; 2 of which one right, two not labelled.
EXAMPLES = [
    example([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
    example([[1, 1], [1, 1]], [[0, 0], [0, 1]]),
    example([[1, 0], [255, 255]], [[1, 1], [1, 0]]),
]
# Would be wrong in all pixels of class 2.
PADDING = example([[2, 2], [2, 2]], [[1, 1], [1, 1]])
CONFUSION = [[4, 1, 0], [3, 2, 0], [0, 0, 0]]


def batches(size):
    rows = [(*pair, index) for index, pair in enumerate(EXAMPLES)]
    rows += [(*PADDING, -1)] * (-len(rows) % size)
    for start in range(0, len(rows), size):
        images, labels, indices = zip(*rows[start : start + size], strict=True)
        yield {"image": np.stack(images), "label": np.stack(labels), "index": np.array(indices)}


def run(size=2, examples=None, merge="softmax", **options):
    source = batches(size) if examples is None else examples
    return evaluate(Fixed(merge), source, num_classes=3, num_images=3, **options)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_each_example_counts_once_and_padding_not_at_all(size):
    found = run(size)
    np.testing.assert_array_equal(found.confusion, CONFUSION)
    # Of the totals: the mean of the images' IoUs would be another number.
    np.testing.assert_allclose(found.scores.iou, [4 / 8, 2 / 6, np.nan])
    np.testing.assert_allclose(found.scores.mean_iou, (4 / 8 + 2 / 6) / 2)
    np.testing.assert_allclose(found.scores.pixel_accuracy, 6 / 10)
    # The first batch compiles and is not timed.
    assert (found.seconds_per_image > 0) == (size < 3)


def test_scores_of_single_images():
    # The second: class 0 is only predicted, class 1 has 1 of 4; the third: 0 of 1, 1 of 2.
    expected = {0: 1.0, 1: (0 + 1 / 4) / 2, 2: (0 + 1 / 2) / 2}
    assert run().image_scores == expected


def test_merge_is_the_configs():
    np.testing.assert_allclose(run(merge="original").scores.mean_iou, (4 / 8 + 2 / 6) / 3)


def test_an_image_without_labels_has_no_score_of_its_own():
    image, _ = EXAMPLES[0]
    unlabelled = {
        "image": image[None],
        "label": np.full((1, 2, 2), 255, np.uint8),
        "index": np.array([3]),
    }
    found = run(examples=[*batches(1), unlabelled])
    assert sorted(found.image_scores) == [0, 1, 2]
    np.testing.assert_array_equal(found.confusion, CONFUSION)


def test_a_wish_to_stop_ends_the_pass_without_a_result():
    answers = iter([False, True])
    asked = Fixed("softmax")
    found = evaluate(
        asked,
        batches(1),
        num_classes=3,
        num_images=3,
        should_stop=lambda: next(answers),
    )
    assert found is None
    assert asked.seen == 1


@pytest.mark.parametrize("index", [0, -1])
def test_nothing_to_score_is_an_error(index):
    image, label = EXAMPLES[0]
    label = np.full_like(label, 255) if index == 0 else label
    only = {"image": image[None], "label": label[None], "index": np.array([index])}
    for examples in ([only], []):
        with pytest.raises(UserError, match="no labelled pixel"):
            run(examples=examples)


def test_the_table_shows_each_class(capsys):
    run().show(["road", "sky", "tree"])
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    # IoU, precision, recall, F1.
    assert "road 0.5000 0.5714 0.8000 0.6667" in shown
    assert "sky 0.3333 0.6667 0.4000 0.5000" in shown
    assert "tree – – – –" in shown
    assert "mean iou 0.4167" in shown


def test_each_image_is_handed_on_with_its_labels():
    seen = {}
    assert run(2, has_labels=False, on_image=seen.__setitem__) is None
    assert sorted(seen) == [0, 1, 2]
    for index, (image, _) in enumerate(EXAMPLES):
        np.testing.assert_array_equal(seen[index], image[..., 0])


@pytest.mark.parametrize("size", [1, 3])
def test_what_goes_wrong_with_an_image_is_raised(size):
    def write(index, labels):
        if index == 1:
            raise UserError("disk full")

    with pytest.raises(UserError, match="disk full"):
        run(size, on_image=write)
