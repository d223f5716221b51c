"""Scores against fractions worked out by hand."""

import numpy as np
import pytest

from danet_jax.evaluation.metrics import confusion_matrix, score

NAN = float("nan")

# Rows truth, columns prediction. Class 0: 6 labelled, 5 predicted, 4 right; class 1: 4, 3, 2;
# class 2 is predicted twice and never labelled; class 3 does not occur.
CONFUSION = np.array([[4, 1, 1, 0], [1, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
IOU = [4 / 7, 2 / 5, 0, NAN]


def test_confusion_matrix_counts_truth_by_prediction():
    truth = np.array([[0, 0, 1, 255], [2, 1, 255, 2]], np.uint8)
    predicted = np.array([[0, 1, 1, 0], [2, 0, 2, 0]], np.uint8)
    counts = confusion_matrix(truth, predicted, num_classes=3)
    np.testing.assert_array_equal(counts, [[1, 1, 0], [1, 1, 0], [1, 0, 1]])
    assert counts.dtype == np.int64


def test_confusion_matrix_of_many_classes_does_not_overflow_eight_bits():
    truth, predicted = np.array([149], np.uint8), np.array([148], np.uint8)
    counts = confusion_matrix(truth, predicted, num_classes=150)
    assert counts.shape == (150, 150)
    assert counts[149, 148] == counts.sum() == 1


def test_confusion_matrix_without_labels_is_zero():
    ignored = np.full((2, 2), 255, np.uint8)
    counts = confusion_matrix(ignored, np.zeros((2, 2), np.uint8), num_classes=2)
    np.testing.assert_array_equal(counts, np.zeros((2, 2)))


def test_scores_of_each_class():
    scores = score(CONFUSION)
    np.testing.assert_allclose(scores.iou, IOU, rtol=1e-12)
    np.testing.assert_allclose(scores.recall, [4 / 6, 2 / 4, NAN, NAN], rtol=1e-12)
    assert scores.mean_accuracy == pytest.approx(np.nanmean(scores.recall))
    np.testing.assert_allclose(scores.precision, [4 / 5, 2 / 3, 0, NAN], rtol=1e-12)
    np.testing.assert_allclose(scores.f1, [8 / 11, 4 / 7, 0, NAN], rtol=1e-12)
    np.testing.assert_array_equal(scores.pixels, [6, 4, 0, 0])


def test_scores_of_the_whole():
    scores = score(CONFUSION)
    expected = {
        # The class that is only predicted counts with 0, the absent one not at all.
        "mean_iou": (4 / 7 + 2 / 5) / 3,
        "pixel_accuracy": 6 / 10,
        "mean_accuracy": (4 / 6 + 2 / 4) / 2,
        "frequency_weighted_iou": 0.6 * 4 / 7 + 0.4 * 2 / 5,
        "mean_f1": (8 / 11 + 4 / 7) / 3,
    }
    summary = scores.summary()
    assert list(summary) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(summary[name], value, rtol=1e-12, err_msg=name)


def test_the_originals_mean_iou_counts_absent_classes_as_zero():
    original, usual = score(CONFUSION, merge="original"), score(CONFUSION, merge="softmax")
    np.testing.assert_allclose(original.mean_iou, (4 / 7 + 2 / 5) / 4, rtol=1e-12)
    # The class itself stays undefined, and no other mean changes.
    np.testing.assert_array_equal(original.iou, usual.iou)
    assert original.summary() | {"mean_iou": usual.mean_iou} == usual.summary()


def test_perfect_prediction_scores_one():
    assert set(score(np.diag([3, 1, 2])).summary().values()) == {1.0}


def test_a_labelled_class_that_is_never_found_scores_zero():
    scores = score(np.array([[0, 2], [0, 2]]))
    np.testing.assert_allclose(scores.iou, [0, 0.5])
    np.testing.assert_allclose(scores.precision, [NAN, 0.5])
    assert scores.mean_iou == 0.25


@pytest.mark.parametrize("merge", ["softmax", "original"])
def test_nothing_to_score_is_undefined(merge):
    summary = score(np.zeros((2, 2), np.int64), merge=merge).summary()
    for name in ("pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "mean_f1"):
        assert np.isnan(summary[name]), name


def test_scores_of_billions_of_pixels_are_exact():
    confusion = np.array([[3 * 10**9, 1], [1, 10**9]])
    scores = score(confusion)
    assert scores.pixel_accuracy == 4 * 10**9 / (4 * 10**9 + 2)
    assert scores.pixels[0] == 3 * 10**9 + 1
