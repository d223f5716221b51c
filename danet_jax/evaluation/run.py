"""The evaluation of a prepared split: opened, checked, predicted and scored."""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ml_collections

from danet_jax import input_pipeline
from danet_jax.base.errors import UserError
from danet_jax.configs import rules
from danet_jax.evaluation import scoring
from danet_jax.evaluation.eval_config import settings_of
from danet_jax.evaluation.predictor import Predictor, read_variables
from danet_jax.evaluation.presets import PREFIX
from danet_jax.evaluation.settings import InferenceSettings, check_cost
from danet_jax.models.danet import DANet
from danet_jax.network import Variables
from danet_jax.runtime import parallel


@dataclasses.dataclass(frozen=True)
class SplitEvaluation:
    """A prepared split with its settings of inference; made by `open_evaluation`."""

    split: input_pipeline.Split
    settings: InferenceSettings
    # Images in a batch.
    batch_size: int
    # Windows in a batch; None for one on each device.
    window_batch: int | None

    def predictor(self, model: DANet, variables: Variables) -> Predictor:
        """Returns a predictor of these settings."""
        settings = dataclasses.asdict(self.settings)
        return Predictor(model, variables, **settings, batch_size=self.window_batch)

    def restored_predictor(
        self,
        workdir: Path,
        config: ml_collections.ConfigDict,
        model: DANet,
        *,
        step: int | None = None,
    ) -> Predictor:
        """Returns `predictor` of a run's checkpoint, the best one where `step` is None."""
        variables, step = read_variables(workdir, config, model, step)
        predictor = self.predictor(model, variables)
        predictor.step = step
        return predictor

    def score(
        self,
        predictor: Predictor,
        should_stop: Callable[[], bool] = lambda: False,
        **options: Any,
    ) -> scoring.Evaluation | None:
        """Scores a predictor on all processes; None where it stopped or there are no labels.

        The options are those of `scoring.evaluate`.
        """
        predictor.expect(self.split.sizes().elements())
        batches = input_pipeline.evaluation_batches(
            self.split, batch_size=self.batch_size, **parallel.process()
        )
        return scoring.evaluate(
            predictor,
            batches,
            num_classes=self.split.labels.num_classes,
            num_images=len(self.split),
            should_stop=should_stop,
            **options,
        )


def open_evaluation(
    config: ml_collections.ConfigDict,
    split: str | input_pipeline.Split,
    *,
    labelled: bool = True,
) -> SplitEvaluation:
    """Opens a prepared split, to be predicted as `config.eval` says.

    Args:
      config: the experiment.
      split: its name, or examples of a program's own.
      labelled: the labels will be read.

    Raises:
      UserError: an invalid value of `config.eval`, no such split, classes that are not the model's,
        no label, or an image that would need too much memory or time.
    """
    settings = settings_of(config.eval)
    split = open_split(config, split, labelled=labelled)
    batch_size, window_batch = config.eval.batch_size, config.eval.window_batch or None
    check_sizes(
        settings,
        split.sizes(),
        num_classes=split.labels.num_classes,
        batch_size=batch_size,
        window_batch=window_batch,
    )
    return SplitEvaluation(split, settings, batch_size, window_batch)


def check_sizes(
    settings: InferenceSettings,
    sizes: Iterable[tuple[int, int]],
    *,
    num_classes: int,
    batch_size: int,
    window_batch: int | None,
) -> None:
    """Raises a UserError if an image of these (height, width) needs too much memory or time."""
    windows = window_batch or parallel.local_mesh().size
    if settings.is_single_pass:
        windows = max(batch_size, windows)
    for size in set(sizes):
        check_cost(settings, size, num_classes=num_classes, batch_size=windows, prefix=PREFIX)


def open_split(
    config: ml_collections.ConfigDict,
    split: str | input_pipeline.Split,
    *,
    labelled: bool = True,
) -> input_pipeline.Split:
    """Opens a prepared split by its name; examples of a program's own are only checked.

    Raises:
      UserError: there is no such split, its classes are not the model's, or it has no labels where
        they will be read.
    """
    if isinstance(split, str):
        data = config.data
        if data.name == input_pipeline.OWN:
            raise UserError(
                "This run was trained on examples of a program's own, which no folder holds: give "
                "them to danet_jax.train (train_data=, eval_data=) and danet_jax.evaluate (split=)."
            )
        split = input_pipeline.open_split(data.name, split, data_dir=data.data_dir)
    rules.settle_num_classes(config, split.labels.num_classes)
    if not labelled:
        return split
    if not split.has_labels:
        raise UserError(
            f"The split {split.split!r} of {split.name} has no labels. `eval --submission=DIR` "
            "writes its predictions for the benchmark's server."
        )
    # This is cheap: only labels are read, and mostly the first image has one.
    if not any(split.class_pixels(index).any() for index in range(len(split))):
        raise UserError(
            f"No pixel of the split {split.split!r} of {split.name} is labelled with a class: all "
            "are to be ignored, so there is no score and nothing to learn. Prepare it from labels "
            "that hold the classes, or name other splits in config.data.eval_split and "
            "config.data.train_split."
        )
    return split
