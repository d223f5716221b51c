"""The evaluation of a prepared split: opened, checked, predicted and scored."""

from collections.abc import Callable
from typing import Any

import ml_collections

import input_pipeline
from danet_base.errors import UserError
from danet_jax.evaluation import eval_config, evaluate
from danet_jax.evaluation.predictor import Predictor
from danet_jax.runs import folder as run_folder
from danet_jax.runtime import parallel


def open_split(config: ml_collections.ConfigDict, name: str) -> input_pipeline.Split:
    """Opens a prepared split; a UserError where its classes are not the model's."""
    split = input_pipeline.open_split(config.data.name, name, data_dir=config.data.data_dir)
    run_folder.check_evaluation(config, split.labels.num_classes)
    eval_config.check_settings(config.eval)
    return split


def check_sizes(config: ml_collections.ConfigDict, split: input_pipeline.Split) -> None:
    """Raises a UserError where images of a split would need too much memory or time."""
    eval_config.check_sizes(config.eval, split.sizes(), num_classes=split.labels.num_classes)


def check_labels(split: input_pipeline.Split) -> None:
    """Raises a UserError where a split has no labelled pixel to score or to train with."""
    if not split.has_labels:
        raise UserError(
            f"The split {split.split!r} of {split.name} has no labels. `eval --submission=DIR` "
            "writes its predictions for the benchmark's server."
        )
    # Only labels are read, and mostly only the first one.
    if not any(split.class_pixels(index).any() for index in range(len(split))):
        raise UserError(
            f"No pixel of the split {split.split!r} of {split.name} is labelled with a class: all "
            "are to be ignored, so there is no score and nothing to learn. Prepare it from labels "
            "that hold the classes, or name other splits in config.data.eval_split and "
            "config.data.train_split."
        )


def score(
    config: ml_collections.ConfigDict,
    predictor: Predictor,
    split: input_pipeline.Split,
    should_stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> evaluate.Evaluation | None:
    """Scores a predictor on a split, on all processes; None where it stopped or has no labels."""
    predictor.expect(split.sizes().elements())
    batches = input_pipeline.evaluation_batches(
        split, batch_size=config.eval.batch_size, **parallel.process()
    )
    return evaluate.evaluate(
        predictor,
        batches,
        config=config,
        num_images=len(split),
        should_stop=should_stop,
        **options,
    )
