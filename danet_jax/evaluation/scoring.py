"""One pass over a split: each example counts once, and sums are divided only at the end."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures

import jax
import numpy as np
from jaxtyping import Int64
from rich.markup import escape
from rich.table import Table

from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line
from danet_jax.console.terminal import console, image_progress
from danet_jax.evaluation.metrics import Scores, confusion_matrix, score
from danet_jax.evaluation.predictor import Predictor
from danet_jax.runtime import parallel
from danet_jax.runtime.profiling import Profile


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of a pass over a split."""

    # Rows are true classes, columns predicted ones; summed over all processes.
    confusion: Int64[np.ndarray, "s s"]
    scores: Scores
    # Index in the split → mean IoU of that image alone.
    image_scores: dict[int, float]
    # Batches that compile are left out; nan where there are no others.
    seconds_per_image: float

    def show(self, names: Sequence[str]) -> None:
        """Prints the scores of each class and of all classes together."""
        table = Table("class", *("IoU", "precision", "recall", "F1"))
        for index, name in enumerate(names):
            values = (getattr(self.scores, f)[index] for f in ("iou", "precision", "recall", "f1"))
            table.add_row(
                escape(one_line(name)), *("–" if np.isnan(v) else f"{v:.4f}" for v in values)
            )
        table.add_section()
        for name, value in self.scores.summary().items():
            table.add_row(name.replace("_", " "), f"{value:.4f}")
        console.print(table)


def evaluate(
    predictor: Predictor,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    num_classes: int,
    num_images: int,
    has_labels: bool = True,
    on_image: Callable[[int, np.ndarray], None] = lambda index, labels: None,
    should_stop: Callable[[], bool] = lambda: False,
    profile: Profile | None = None,
) -> Evaluation | None:
    """Scores a predictor on this process's batches of a split, and sums over all processes.

    Without labels there is no score: the images are only predicted, and None is returned.

    Args:
      predictor: labels a batch of images of one size.
      batches: "image" [b, h, w, 3] uint8, "label" [b, h, w] uint8 with 255 ignored, "index" [b]
        with -1 in rows that fill up a batch.
      num_classes: the classes that are scored.
      num_images: the images of the split on all processes.
      has_labels: whether the split is labelled.
      on_image: called with each image's index and its predicted labels [h, w], in another thread.
      should_stop: asked before each batch; True ends the pass without a result.
      profile: measures where the time goes.

    Raises:
      UserError: no pixel of the split is labelled.
    """
    profile = profile or Profile()
    confusion = np.zeros((num_classes, num_classes), np.int64)
    image_scores = np.full(num_images, np.nan, np.float32)
    seconds, timed, shapes = 0.0, 0, set()

    def count(batch: dict[str, np.ndarray], prediction: np.ndarray, rows: np.ndarray) -> None:
        nonlocal confusion
        for row in rows:
            index = int(batch["index"][row])
            on_image(index, prediction[row])
            if has_labels:
                truth = batch["label"][row]
                counts = confusion_matrix(truth, prediction[row], num_classes=num_classes)
                confusion += counts
                if counts.any():
                    image_scores[index] = score(counts).mean_iou

    with (
        image_progress(visible=parallel.is_main_process()) as progress,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        task = progress.add_task("evaluate", total=-(-num_images // jax.process_count()))
        counting: futures.Future = pool.submit(lambda: None)
        for batch in profile.waiting(batches):
            if should_stop():
                return None
            profile.begin_round()
            start = time.perf_counter()
            with profile.spend("prediction"):
                prediction = predictor.labels(batch["image"])
            rows = np.flatnonzero(batch["index"] >= 0)
            if batch["image"].shape in shapes:
                seconds += time.perf_counter() - start
                timed += len(rows)
            # The first batch of a size compiles, so it is not timed.
            shapes.add(batch["image"].shape)
            # A batch is counted while the next one is predicted and the one after that is read.
            counting.result()
            counting = pool.submit(count, batch, prediction, rows)
            progress.advance(task, len(rows))
        counting.result()
    confusion = parallel.sum_over_processes(confusion)
    if not has_labels:
        return None
    if not confusion.any():
        raise UserError("The split has no labelled pixel, so there is nothing to score.")
    return Evaluation(
        confusion=confusion,
        scores=score(confusion, merge=predictor.settings.merge),
        image_scores={
            index: float(value)
            for index, value in enumerate(parallel.merge_over_processes(image_scores))
            if not np.isnan(value)
        },
        seconds_per_image=seconds / timed if timed else float("nan"),
    )
