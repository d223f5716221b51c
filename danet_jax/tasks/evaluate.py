"""Evaluation from end to end: the scores and the report of a run, or a benchmark's submission."""

from pathlib import Path

import ml_collections

from danet_jax import input_pipeline
from danet_jax.base.texts import show
from danet_jax.base.wording import counted
from danet_jax.console.terminal import say
from danet_jax.evaluation import submission
from danet_jax.evaluation.run import SplitEvaluation, open_evaluation
from danet_jax.evaluation.scoring import Evaluation
from danet_jax.models.danet import DANet
from danet_jax.network import create_model
from danet_jax.runs import folder as run_folder
from danet_jax.runs.origin import data_looked_for
from danet_jax.runtime import parallel
from danet_jax.runtime.profiling import Profile


def evaluate(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    split: str | input_pipeline.Examples | None = None,
    step: int | None = None,
    submission_folder: Path | None = None,
    profile: Profile | None = None,
) -> Evaluation | None:
    """Scores a run, prints the scores and writes its report; or writes a submission.

    Args:
      config: of the run, where fields of the evaluation may be changed.
      workdir: of the run.
      split: of the data set, or examples of a program's own; None for config.data.eval_split.
      step: of the checkpoint; None for the best one.
      submission_folder: gets the labels as the benchmark's server takes them; nothing is scored.
      profile: takes note of where the time goes.

    Returns:
      The scores, the same on every process; None for a submission.
    """
    with parallel.together(), data_looked_for(workdir):
        evaluation = open_evaluation(
            config, split or config.data.eval_split, labelled=submission_folder is None
        )
        run_folder.check_classes(workdir, evaluation.split.labels)
    model = create_model(config.model)
    if submission_folder is not None:
        submit(config, workdir, model, evaluation, submission_folder, step=step, profile=profile)
        return None
    return report(config, workdir, model, evaluation, step=step, profile=profile)


def submit(
    config: ml_collections.ConfigDict,
    workdir: Path,
    model: DANet,
    evaluation: SplitEvaluation,
    folder: Path,
    *,
    step: int | None = None,
    profile: Profile | None = None,
) -> None:
    """Writes the predicted labels of a split as its benchmark's server takes them, unscored."""
    form, split = submission.format_of(config.data.name), evaluation.split
    submission.check_size(form, split.size(0))
    names = [split.id(index) for index in range(len(split))]
    submission.check_names(folder, form, names)
    labels = split.labels
    written = submission.Submission(folder, form, ids=labels.raw_ids, colors=labels.colors)
    evaluation.score(
        evaluation.restored_predictor(workdir, config, model, step=step),
        has_labels=False,
        profile=profile,
        on_image=lambda index, predicted: written.write(names[index], predicted),
    )
    parallel.wait_for_all("submission")
    if parallel.is_main_process():
        archive = written.finish(submission.image_sizes(split, form))
        show(f"the labels of {counted(len(split), 'image')}, checked and packed: {archive}")


def report(
    config: ml_collections.ConfigDict,
    workdir: Path,
    model: DANet,
    evaluation: SplitEvaluation,
    *,
    step: int | None = None,
    profile: Profile | None = None,
) -> Evaluation | None:
    """Scores a checkpoint of a run, prints the scores, and then writes report/index.html.

    The scores are those of all processes' images; the first process prints and writes them.
    """
    # Imported late, since Matplotlib takes longer than it takes to find a mistake in the config.
    from danet_jax.visualization.evaluation_report import check_report, write_evaluation_report

    with parallel.together():
        if parallel.is_main_process():
            check_report(workdir)
    predictor = evaluation.restored_predictor(workdir, config, model, step=step)
    split, settings = evaluation.split, evaluation.settings
    if settings.mode == "slide" and parallel.is_main_process():
        # The number explains why it takes long: the presets for Cityscapes enlarge small images.
        height, width = split.size(0)
        count = counted(settings.count_windows((height, width)), "window")
        mirrored = ", each also mirrored" if settings.flip else ""
        say(f"inference: {count} for an image of {width}×{height}{mirrored}")
    result = evaluation.score(predictor, profile=profile)
    if result is None or not parallel.is_main_process():
        return result
    # The scores are shown before the report, which a full disk or a kill may still prevent.
    result.show(split.labels.names)
    images = counted(len(split), "image")
    show(f"mean IoU {result.scores.mean_iou:.4f} on {images}")
    path = write_evaluation_report(workdir, result, config=config, predictor=predictor, split=split)
    show(f"report: {path}")
    return result
