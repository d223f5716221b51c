"""`eval`: the scores of a run and their report."""

import argparse
from collections.abc import Callable
from pathlib import Path

import ml_collections

import input_pipeline
from danet_jax import experiment, parallel
from danet_jax.evaluation import evaluate
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.settings import check_settings, predictor_options


def run(args: argparse.Namespace) -> None:
    config = experiment.override_run(experiment.read_config(args.workdir), args.overrides)
    parallel.initialize(distributed=config.mesh.distributed)
    split = open_split(config, args.split or config.data.eval_split)
    report(config, args.workdir, split, step=args.step)


def open_split(config: ml_collections.ConfigDict, name: str) -> input_pipeline.Split:
    """Opens a prepared split, whose classes are to be the model's."""
    split = input_pipeline.open_split(config.data.name, name, data_dir=config.data.data_dir)
    experiment.check_evaluation(config, split.labels.num_classes)
    check_settings(config.eval)
    return split


def score(
    config: ml_collections.ConfigDict,
    predictor: Predictor,
    split: input_pipeline.Split,
    should_stop: Callable[[], bool] = lambda: False,
) -> evaluate.Evaluation | None:
    """Predicts a split on all processes; None where it was stopped."""
    batches = input_pipeline.evaluation_batches(
        split, batch_size=config.eval.batch_size, **parallel.process()
    )
    return evaluate.evaluate(
        predictor, batches, config=config, num_images=len(split), should_stop=should_stop
    )


def report(
    config: ml_collections.ConfigDict,
    workdir: Path,
    split: input_pipeline.Split,
    *,
    step: int | None = None,
) -> None:
    """Scores a checkpoint of a run, prints the scores and writes report/index.html."""
    # Here, since Matplotlib takes longer than to find a mistake in the config.
    from danet_jax.visualization.evaluation_report import write_evaluation_report

    predictor = Predictor.from_workdir(workdir, step=step, **predictor_options(config.eval))
    evaluation = score(config, predictor, split)
    if evaluation is None or not parallel.is_main_process():
        return
    path = write_evaluation_report(
        workdir, evaluation, config=config, predictor=predictor, split=split
    )
    evaluation.show(split.labels.names)
    print(f"mean IoU {evaluation.scores.mean_iou:.4f} on {len(split)} images; report: {path}")
