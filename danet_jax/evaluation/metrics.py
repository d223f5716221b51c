"""Scores of a confusion matrix: sums over a whole data set first, one division at the end."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int64, Integer

from danet_base.labels import IGNORE_LABEL

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
    """All scores, 0 to 1; per class nan where a score is undefined.

    A class occurs where it is labelled or predicted; one that does not has no IoU. Means leave
    undefined values out, except `mean_iou` where absent classes count as 0 (the original's rule).
    """

    iou: PerClass
    accuracy: PerClass
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
        """The scores of the whole, the most important first."""
        return {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_accuracy": self.mean_accuracy,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "mean_f1": self.mean_f1,
        }


def score(confusion: Int64[np.ndarray, "s s"], *, merge: str = "softmax") -> Scores:
    """Returns the scores of a confusion matrix (rows truth, columns prediction).

    With merge "original" a class that does not occur counts as IoU 0 in the mean, as in the
    original's evaluation; else it is left out, as nearly everywhere.
    """
    hit = np.diag(confusion).astype(np.float64)
    labelled = confusion.sum(axis=1)
    predicted = confusion.sum(axis=0)
    total = confusion.sum()
    iou = _divide(hit, labelled + predicted - hit)
    recall = _divide(hit, labelled)
    occurring = labelled > 0
    f1 = _divide(2 * hit, labelled + predicted)
    return Scores(
        iou=iou,
        # The accuracy of a class is its recall; papers' tables know it by this name.
        accuracy=recall,
        precision=_divide(hit, predicted),
        recall=recall,
        f1=f1,
        pixels=labelled,
        mean_iou=float(np.nan_to_num(iou).mean()) if merge == "original" else _mean(iou),
        pixel_accuracy=float(hit.sum() / total) if total else float("nan"),
        mean_accuracy=_mean(recall),
        frequency_weighted_iou=(
            float((labelled[occurring] / total * iou[occurring]).sum()) if total else float("nan")
        ),
        mean_f1=_mean(f1),
    )


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> PerClass:
    undefined = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _mean(values: PerClass) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
