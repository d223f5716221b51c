"""Training from end to end: from a config and prepared data to a run and its report."""

import functools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

import input_pipeline
from configs import common
from danet_base.wording import counted
from danet_jax.console.terminal import say
from danet_jax.evaluation.eval_config import predictor_options
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.run import check_labels, check_sizes, open_split, score
from danet_jax.interop import torch_weights
from danet_jax.network import create_model
from danet_jax.runs import folder as run_folder
from danet_jax.runs import history, opening
from danet_jax.runtime import parallel
from danet_jax.runtime.profiling import profiled
from danet_jax.tasks.evaluate import report
from danet_jax.tasks.recipe import describe_recipe
from danet_jax.training import loop, settings, setup


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    fresh: bool = False,
    profile: bool = False,
) -> signal.Signals | None:
    """Trains a run to its end, or on from its newest checkpoint, and writes its report.

    Args:
      config: the whole experiment; the intervals that it leaves open are filled in.
      workdir: the run's folder.
      fresh: move a run that is there aside and start anew.
      profile: say at the end of the loop where its time went, and keep a trace of some rounds.

    Returns:
      None when done; SIGTERM or SIGINT where it ended training early, the state being saved.

    Raises:
      UserError: the config, the data or the workdir do not fit; nothing was begun then.
    """
    with parallel.together():
        settings.check_config(config)
        split = open_split(config, config.data.train_split)
        eval_split = open_split(config, config.data.eval_split)
        check_labels(split)
        check_labels(eval_split)
        check_sizes(config, eval_split)
        make_stream = functools.partial(
            input_pipeline.TrainingStream,
            split,
            config.data,
            seed=config.seed,
            batch_size=config.train.batch_size,
            **parallel.process(),
        )
        make_stream(next_batch=0).close()  # refuses faulty values before the workdir is touched
        total_steps = settings.count_steps(config, len(split))
        common.complete_intervals(config, total_steps)
        is_new = fresh or not run_folder.has_checkpoint(workdir)
        if is_new and not fresh:
            run_folder.check_import_is_whole(workdir)
        start, source = pretrained(config) if is_new else (None, None)

    with opening.opened(config, workdir, fresh=fresh, labels=split.labels):
        mesh = parallel.create_mesh(space=config.mesh.space)
        # First of all that takes its time, since a cached step is read in the background.
        step_program = setup.cached_step(
            config, mesh, total_steps, setup.abstract_batch(config, mesh)
        )
        if parallel.is_main_process():
            for line in describe_recipe(
                config,
                num_images=len(split),
                total_steps=total_steps,
                continued=not is_new,
                eval_sizes=eval_split.sizes(),
            ):
                say(line)
        if is_new and parallel.is_main_process():
            run_folder.write_weights(workdir, source)
        with parallel.together():
            if parallel.is_main_process():
                # The report at the end reads them, hours later.
                history.check_readable(workdir)
        with profiled(workdir, asked=profile) as notes:
            stopped = loop.train(
                config,
                workdir,
                make_stream=make_stream,
                evaluate=_evaluation(config, eval_split),
                step_program=step_program,
                total_steps=total_steps,
                start=start,
                profile=notes,
            )
        if stopped is None:
            report(config, workdir, eval_split)
    return stopped


def _evaluation(config: ml_collections.ConfigDict, split: input_pipeline.Split) -> loop.Evaluate:
    """Returns what scores the variables of a network during its training."""
    # This is the model that `eval` makes; training's may be made for several devices.
    model = create_model(config.model)

    def evaluate(variables: Any, should_stop: Callable[[], bool]) -> dict[str, float] | None:
        predictor = Predictor(model, variables, **predictor_options(config.eval))
        evaluation = score(config, predictor, split, should_stop)
        return None if evaluation is None else evaluation.scores.summary()

    return evaluate


def pretrained(
    config: ml_collections.ConfigDict,
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Returns the variables of config.model.pretrained_backbone, and where they are from."""
    file = config.model.pretrained_backbone
    if not file:
        return None, None
    model = create_model(config.model)
    weights = torch_weights.backbone_from_torch(torch_weights.read_checkpoint(file, model), model)
    if parallel.is_main_process():
        say(f"the backbone starts from {counted(weights.count, 'array')} of {file}")
    return weights.variables, torch_weights.describe(weights, file, part="backbone")
