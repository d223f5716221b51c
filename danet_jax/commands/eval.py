"""`eval`: the scores of a run and their report."""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_collections

import input_pipeline
from danet_base.errors import UserError
from danet_base.texts import show
from danet_base.wording import counted
from danet_jax.commands.check_submission import image_sizes
from danet_jax.console.terminal import say
from danet_jax.evaluation import evaluate, settings, submission
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.settings import check_overrides, check_settings
from danet_jax.runs import folder as experiment
from danet_jax.runtime import devices, parallel
from danet_jax.runtime.profiling import FOLDER, Profile


def run(args: argparse.Namespace) -> None:
    config = experiment.read_config(args.workdir)
    # How many processes trained is no matter here.
    config.mesh.distributed = False
    before = config.eval.copy_and_resolve_references()
    config = experiment.override_run(config, args.overrides)
    check_overrides(config.eval, args.overrides, before=before)
    parallel.initialize(distributed=config.mesh.distributed)
    devices.announce()
    with parallel.together():
        split = open_split(config, args.split or config.data.eval_split)
        check_sizes(config, split)
        experiment.check_classes(args.workdir, split.labels)
        if not args.submission:
            check_labels(split)
    with profiled(args) as profile:
        if args.submission:
            submit(config, args.workdir, split, args.submission, step=args.step, profile=profile)
        else:
            report(config, args.workdir, split, step=args.step, profile=profile)


@contextlib.contextmanager
def profiled(args: argparse.Namespace) -> Iterator[Profile]:
    """Notes where the time goes, and with --profile says so at the end."""
    traced = args.profile and parallel.is_main_process()
    with Profile(args.workdir / FOLDER if traced else None) as profile:
        yield profile
    if traced:
        say("\n".join(profile.summary()))


def open_split(config: ml_collections.ConfigDict, name: str) -> input_pipeline.Split:
    """Opens a prepared split, whose classes are to be the model's."""
    split = input_pipeline.open_split(config.data.name, name, data_dir=config.data.data_dir)
    experiment.check_evaluation(config, split.labels.num_classes)
    check_settings(config.eval)
    return split


def check_sizes(config: ml_collections.ConfigDict, split: input_pipeline.Split) -> None:
    """Raises a UserError where images of a split would take more than there is to evaluate."""
    settings.check_sizes(config.eval, split.sizes(), num_classes=split.labels.num_classes)


def score(
    config: ml_collections.ConfigDict,
    predictor: Predictor,
    split: input_pipeline.Split,
    should_stop: Callable[[], bool] = lambda: False,
    **options: Any,
) -> evaluate.Evaluation | None:
    """Predicts a split on all processes; None where it was stopped or is not to be scored."""
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


def check_labels(split: input_pipeline.Split) -> None:
    """Raises a UserError where there is nothing to score or to train with."""
    if not split.has_labels:
        raise UserError(
            f"The split {split.split!r} of {split.name} has no labels. `eval --submission=DIR` "
            "writes its predictions for the benchmark's server."
        )
    # Labels alone are read, and of most splits only the first.
    if not any(split.class_pixels(index).any() for index in range(len(split))):
        raise UserError(
            f"No pixel of the split {split.split!r} of {split.name} is labelled with a class: all "
            "are to be ignored, so there is no score and nothing to learn. Prepare it from labels "
            "that hold the classes, or name other splits in config.data.eval_split and "
            "config.data.train_split."
        )


def submit(
    config: ml_collections.ConfigDict,
    workdir: Path,
    split: input_pipeline.Split,
    folder: Path,
    *,
    step: int | None = None,
    profile: Profile | None = None,
) -> None:
    """Writes the predicted labels of a split as its benchmark's server takes them, unscored."""
    form = submission.format_of(config.data.name)
    submission.check_size(form, split.size(0))
    names = [split.id(index) for index in range(len(split))]
    submission.check_names(folder, form, names)
    labels = split.labels
    written = submission.Submission(folder, form, ids=labels.raw_ids, colors=labels.colors)
    predictor = Predictor.from_workdir(workdir, step=step, config=config)
    score(
        config,
        predictor,
        split,
        has_labels=False,
        profile=profile,
        on_image=lambda index, predicted: written.write(names[index], predicted),
    )
    parallel.wait_for_all("submission")
    if parallel.is_main_process():
        archive = written.finish(image_sizes(split, form))
        show(f"the labels of {counted(len(split), 'image')}, checked and packed: {archive}")


def report(
    config: ml_collections.ConfigDict,
    workdir: Path,
    split: input_pipeline.Split,
    *,
    step: int | None = None,
    profile: Profile | None = None,
) -> None:
    """Scores a checkpoint of a run, prints the scores, and then writes report/index.html."""
    # Here, since Matplotlib takes longer than to find a mistake in the config.
    from danet_jax.visualization.evaluation_report import check_report, write_evaluation_report

    with parallel.together():
        if parallel.is_main_process():
            check_report(workdir)
    predictor = Predictor.from_workdir(workdir, step=step, config=config)
    if predictor.look.mode == "slide" and parallel.is_main_process():
        # The presets for Cityscapes enlarge a small photo, too, which takes its time.
        height, width = split.size(0)
        count = counted(predictor.look.count_windows((height, width)), "window")
        mirrored = ", each with its mirror image" if predictor.look.flip else ""
        say(f"looks at {count} of an image of {width}×{height}{mirrored}")
    evaluation = score(config, predictor, split, profile=profile)
    if evaluation is None or not parallel.is_main_process():
        return
    # Before the report, which a full disk or a kill may still keep from being written.
    evaluation.show(split.labels.names)
    images = counted(len(split), "image")
    show(f"mean IoU {evaluation.scores.mean_iou:.4f} on {images}")
    path = write_evaluation_report(
        workdir, evaluation, config=config, predictor=predictor, split=split
    )
    show(f"report: {path}")
