"""Scores of a confusion matrix, which is summed over a whole data set and divided only then."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int64, Integer

from danet_jax.base.labels import IGNORE_LABEL

PerClass = Float[np.ndarray, " s"]


def confusion_matrix(
    truth: Integer[np.ndarray, "..."], prediction: Integer[np.ndarray, "..."], *, num_classes: int
) -> Int64[np.ndarray, "s s"]:
    """Counts pixels by (true class, predicted class), leaving out those labelled 255."""
    valid = truth != IGNORE_LABEL
    pairs = num_classes * truth[valid].astype(np.int64) + prediction[valid]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


@dataclasses.dataclass(frozen=True)
class Scores:
    """All scores, from 0 to 1; those of a class are nan where they are undefined.

    A class that is neither labelled nor predicted has no IoU. Means leave undefined values out,
    except `mean_iou` by the original's rule, where absent classes count as 0. `mean_accuracy` is
    the mean of `recall`, which papers also call the accuracy of a class.
    """

    iou: PerClass
    precision: PerClass
    recall: PerClass
    f1: PerClass
    # Labelled pixels of each class.
    pixels: Int64[np.ndarray, " s"]
    mean_iou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    mean_f1: float

    def summary(self) -> dict[str, float]:
        """The scores of all classes together, the most important first."""
        return {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "mean_f1": self.mean_f1,
        }


def score(confusion: Int64[np.ndarray, "s s"], *, merge: str = "softmax") -> Scores:
    """Returns the scores of a confusion matrix (rows truth, columns prediction).

    Where merge is "original", a class that does not occur counts as IoU 0 in the mean, as in the
    original's evaluation; else it is left out, as nearly everywhere.
    """
    true_positives = np.diag(confusion).astype(np.float64)
    labelled = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    total = confusion.sum()
    iou = _divide(true_positives, labelled + predicted - true_positives)
    recall = _divide(true_positives, labelled)
    is_labelled = labelled > 0
    f1 = _divide(2 * true_positives, labelled + predicted)
    return Scores(
        iou=iou,
        precision=_divide(true_positives, predicted),
        recall=recall,
        f1=f1,
        pixels=labelled,
        mean_iou=float(np.nan_to_num(iou).mean()) if merge == "original" else _mean(iou),
        pixel_accuracy=float(true_positives.sum() / total) if total else float("nan"),
        mean_accuracy=_mean(recall),
        frequency_weighted_iou=(
            float((labelled[is_labelled] / total * iou[is_labelled]).sum())
            if total
            else float("nan")
        ),
        mean_f1=_mean(f1),
    )


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> PerClass:
    undefined = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _mean(values: PerClass) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
