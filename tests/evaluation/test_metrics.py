"""Scores against numbers worked out by hand."""

import numpy as np
import pytest

from danet_jax.evaluation.metrics import confusion_matrix, score

# Class 0: 3 of 4 right; class 1: 2 of 3; class 2 does not occur; class 3 is predicted only.
CONFUSION = np.array([[3, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]], np.int64)


def test_confusion_counts_labelled_pixels_by_truth_and_prediction():
    truth = np.array([[0, 0, 0, 0], [1, 1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 0, 1], [1, 1, 3, 2]], np.uint8)
    counts = confusion_matrix(truth, prediction, num_classes=4)
    np.testing.assert_array_equal(counts, CONFUSION)
    assert counts.dtype == np.int64


def test_confusion_of_171_classes_does_not_overflow_the_labels_type():
    truth = np.full((2, 2), 170, np.uint8)
    counts = confusion_matrix(truth, truth, num_classes=171)
    assert counts[170, 170] == 4
    assert counts.sum() == 4


def test_scores_per_class():
    scores = score(CONFUSION)
    nan = np.nan
    np.testing.assert_allclose(scores.iou, [3 / 4, 2 / 4, nan, 0])
    np.testing.assert_allclose(scores.recall, [3 / 4, 2 / 3, nan, nan])
    np.testing.assert_allclose(scores.accuracy, scores.recall)
    np.testing.assert_allclose(scores.precision, [1, 2 / 3, nan, 0])
    np.testing.assert_allclose(scores.f1, [6 / 7, 4 / 6, nan, 0])
    np.testing.assert_array_equal(scores.pixels, [4, 3, 0, 0])


def test_scores_of_the_whole():
    summary = score(CONFUSION).summary()
    assert summary == pytest.approx(
        {
            "mean_iou": (3 / 4 + 2 / 4 + 0) / 3,
            "pixel_accuracy": 5 / 7,
            "mean_accuracy": (3 / 4 + 2 / 3) / 2,
            "frequency_weighted_iou": (4 * 3 / 4 + 3 * 2 / 4) / 7,
            "mean_f1": (6 / 7 + 4 / 6 + 0) / 3,
        }
    )


def test_original_counts_absent_classes_as_zero():
    scores = score(CONFUSION, merge="original")
    assert scores.mean_iou == pytest.approx((3 / 4 + 2 / 4) / 4)
    assert np.isnan(scores.iou[2])


def test_nothing_labelled_has_no_score():
    scores = score(np.zeros((3, 3), np.int64))
    assert all(np.isnan(value) for value in scores.summary().values())


def test_counts_above_32_bits_stay_exact():
    scores = score(np.diag([2**53 // 3, 2**40]).astype(np.int64))
    assert scores.pixel_accuracy == 1
    assert scores.pixels[0] == 2**53 // 3
