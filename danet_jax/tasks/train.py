"""Training from end to end: from a config and prepared data to a run and its report."""

import contextlib
import functools
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from danet_jax import input_pipeline
from danet_jax.base.errors import UserError
from danet_jax.base.wording import counted
from danet_jax.configs import common, rules
from danet_jax.console.terminal import say
from danet_jax.evaluation.run import open_evaluation, open_split
from danet_jax.interop import torch_weights
from danet_jax.models.danet import DANet
from danet_jax.network import create_model
from danet_jax.runs import folder as run_folder
from danet_jax.runs import history, opening
from danet_jax.runs.config import flat
from danet_jax.runs.origin import (
    check_loss,
    code_of,
    data_looked_for,
    name_of,
    write_origin,
)
from danet_jax.runs.versions import package_versions
from danet_jax.runtime import parallel, processes
from danet_jax.runtime.profiling import profiled
from danet_jax.tasks.doubts import doubts_on_splits
from danet_jax.tasks.evaluate import report
from danet_jax.tasks.recipe import describe_recipe
from danet_jax.training import checks, loop
from danet_jax.training.losses import LossFunction, check_loss_function
from danet_jax.training.setup import set_up

# Fields that may differ between the hosts of a training.
_OF_A_HOST = ("data.data_dir", "data.num_threads", "data.num_workers")


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    fresh: bool = False,
    profile: bool = False,
    train_data: input_pipeline.Examples | None = None,
    eval_data: input_pipeline.Examples | None = None,
    loss: LossFunction | None = None,
) -> signal.Signals | None:
    """Trains a run to its end, or on from its newest checkpoint, and writes its report.

    Args:
      config: the whole experiment; the intervals that it leaves open are filled in.
      workdir: the run's folder.
      fresh: move a run that is there aside and start anew.
      profile: say at the end of the loop where its time went, and keep a trace of some rounds.
      train_data: a program's own examples to train on; None for the config's data set.
      eval_data: a program's own examples to evaluate; given if and only if train_data is.
      loss: a program's own loss in place of config.loss.name.

    Returns:
      None when done, else the signal that stopped training early, after the state was saved.

    Raises:
      UserError: the config, the data or the workdir do not fit; nothing was begun then.
    """
    processes.check_equal(_facts_of(config, loss))
    with parallel.together(), data_looked_for(workdir):
        mesh = parallel.create_mesh(space=config.mesh.space)
        checks.check_config(config, mesh)
        train_data, eval_data = own_examples(train_data, eval_data)
        for field, own in (("train_split", train_data), ("eval_split", eval_data)):
            if own is not None:
                config.data.update({"name": own.name, field: own.split})
        split = open_split(config, train_data or config.data.train_split)
        evaluation = open_evaluation(config, eval_data or config.data.eval_split)
        make_stream = functools.partial(
            input_pipeline.TrainingStream,
            split,
            config.data,
            seed=config.seed,
            batch_size=config.train.batch_size,
            **parallel.loading(mesh),
        )
        # This refuses faulty values and unreadable examples before the workdir is touched, and not
        # at the first checkpoint, which holds the stream's state.
        with contextlib.closing(make_stream(next_batch=0)) as stream:
            stream.get_state()
        identities = {
            f"{kind} examples": _without_colours(one.identity)
            for kind, one in (("training", split), ("evaluation", evaluation.split))
        }
        for own in (train_data, eval_data):
            if own is not None:
                own.check_repeatable()
        if loss is not None:
            examples = config.train.batch_size // config.train.accumulation_steps
            label_shape = (examples, *config.data.crop_size)
            check_loss_function(loss, label_shape, config.model.num_classes)
            rules.check_beside_own_loss(config.loss)
        total_steps = checks.count_steps(config, len(split))
        common.complete_intervals(config, total_steps)
        # Its evaluation's network; the one that is trained may be made for several devices.
        model = create_model(config.model)
        is_new = fresh or not run_folder.has_checkpoint(workdir)
        # Imported weights were trained with no loss of this run.
        is_untrained = not is_new and run_folder.is_untrained_import(workdir)
        changed_loss = ""
        if not is_new and not is_untrained:
            changed_loss = check_loss(workdir, loss)
        if is_new and not fresh:
            opening.check_workdir(config, workdir)
            run_folder.check_import_is_whole(workdir)
        start, source = pretrained(config, model) if is_new else (None, None)

    processes.check_equal(
        identities | {"checkpoints in --workdir": run_folder.saved_steps(workdir)}
    )
    examples = config.train.batch_size // config.train.accumulation_steps
    described = processes.describe(mesh, batch_size=examples)
    if parallel.is_main_process():
        for line in described:
            say(line)

    with opening.opened(config, workdir, fresh=fresh, labels=split.labels):
        setup = set_up(config, mesh, total_steps, loss)
        # First of all that takes its time, since a cached step is read in the background.
        step = setup.cached_step()
        if parallel.is_main_process():
            for line in describe_recipe(
                config,
                setup.abstract_state().params,
                evaluation.settings,
                num_images=len(split),
                total_steps=total_steps,
                continued=not is_new,
                eval_sizes=evaluation.split.sizes(),
                own_loss=name_of(loss),
            ):
                say(line)
            for doubt in [changed_loss, *doubts_on_splits(split, evaluation.split)]:
                if doubt:
                    say(f"warning: {doubt}")
        if is_new and parallel.is_main_process():
            run_folder.write_weights(workdir, source)
        if (is_new or is_untrained) and parallel.is_main_process():
            data_dir = config.data.data_dir if train_data is None else None
            write_origin(workdir, data_dir=data_dir, loss=loss)
        with parallel.together():
            if parallel.is_main_process():
                # The report at the end reads them, hours later.
                history.check_readable(workdir)

        def evaluate(variables: Any, should_stop: Callable[[], bool]) -> dict[str, float] | None:
            result = evaluation.score(evaluation.predictor(model, variables), should_stop)
            return None if result is None else result.scores.summary()

        with profiled(workdir, asked=profile) as notes:
            stopped = loop.train(
                config,
                workdir,
                setup,
                step,
                make_stream=make_stream,
                evaluate=evaluate,
                evaluated=evaluation.split,
                start=start,
                profile=notes,
            )
        if stopped is None:
            report(config, workdir, model, evaluation)
    return stopped


def _facts_of(config: ml_collections.ConfigDict, loss: LossFunction | None) -> dict[str, Any]:
    """Returns what has to be the same in all processes of a training."""
    fields = {
        f"config.{name}": value for name, value in flat(config).items() if name not in _OF_A_HOST
    }
    own = {"loss=": name_of(loss), "the code of loss=": code_of(loss)}
    return fields | own | {"packages": package_versions()}


def _without_colours(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out what two hosts' libraries may decode differently."""
    return {**identity, "fingerprint": [numbers[:2] for numbers in identity["fingerprint"]]}


def own_examples(
    train_data: input_pipeline.Examples | None, eval_data: input_pipeline.Examples | None
) -> tuple[input_pipeline.Examples | None, input_pipeline.Examples | None]:
    """Returns both, under names that differ; a UserError where they are not of one data set."""
    for argument, own in (("train_data", train_data), ("eval_data", eval_data)):
        if own is not None:
            input_pipeline.check_examples(argument, own)
    if train_data is None and eval_data is None:
        return None, None
    if train_data is None or eval_data is None:
        raise UserError(
            "Examples of a program's own were given for training or for evaluation alone: give "
            "both, train_data= and eval_data=, as a run has one data set."
        )
    if train_data.labels.names != eval_data.labels.names:
        raise UserError(
            f"The classes of train_data are {', '.join(train_data.labels.names)}, and those of "
            f"eval_data {', '.join(eval_data.labels.names)}: give the same names in the same order."
        )
    if train_data.split == eval_data.split and train_data is not eval_data:
        name = train_data.split
        return train_data.called(f"{name} (training)"), eval_data.called(f"{name} (evaluation)")
    return train_data, eval_data


def pretrained(
    config: ml_collections.ConfigDict, model: DANet
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Returns the variables of config.model.pretrained_backbone, and where they are from."""
    file = config.model.pretrained_backbone
    if not file:
        return None, None
    weights = torch_weights.backbone_from_torch(torch_weights.read_checkpoint(file, model), model)
    if parallel.is_main_process():
        say(f"the backbone starts from {counted(weights.count, 'array')} of {file}")
    return weights.variables, torch_weights.describe(weights, file, part="backbone")
