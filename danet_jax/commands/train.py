"""`train`: a run from its start, or on from its newest checkpoint, to its report."""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import ml_collections

import input_pipeline
from configs import common
from danet_base.wording import counted
from danet_jax.commands import eval as evaluation
from danet_jax.console.terminal import say
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.settings import check_overrides, predictor_options
from danet_jax.interop import torch_weights
from danet_jax.models.danet import DANet
from danet_jax.network import create_model
from danet_jax.runs import folder as experiment
from danet_jax.runs import history
from danet_jax.runs.recipe import describe_recipe
from danet_jax.runtime import devices, parallel
from danet_jax.training import loop as training
from danet_jax.training import settings, setup


def run(args: argparse.Namespace) -> int:
    config = experiment.choose_config(args.config, args.overrides, args.workdir)
    check_overrides(config.eval, args.overrides)
    settings.check_overrides(config, args.overrides)
    parallel.initialize(distributed=config.mesh.distributed, stop_together=True)
    devices.announce()
    with parallel.together():
        settings.check_config(config)
        split = evaluation.open_split(config, config.data.train_split)
        eval_split = evaluation.open_split(config, config.data.eval_split)
        evaluation.check_labels(split)
        evaluation.check_labels(eval_split)
        evaluation.check_sizes(config, eval_split)
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
        new = args.fresh or not experiment.has_checkpoint(args.workdir)
        if new and not args.fresh:
            experiment.check_import_is_whole(args.workdir)
        start, source = pretrained(config) if new else (None, None)

    def scores(
        model: DANet, variables: Any, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None:
        predictor = Predictor(model, variables, **predictor_options(config.eval))
        found = evaluation.score(config, predictor, eval_split, should_stop)
        return None if found is None else found.scores.summary()

    with experiment.opened(config, args.workdir, fresh=args.fresh, labels=split.labels):
        mesh = parallel.create_mesh(space=config.mesh.space)
        # Before all that takes its time, since a kept step is read meanwhile.
        program = setup.compiled_step(config, mesh, total_steps, setup.abstract_batch(config, mesh))
        if parallel.is_main_process():
            # For the mesh of training, which then need not trace the network again.
            with jax.set_mesh(mesh):
                lines = describe_recipe(
                    config,
                    num_images=len(split),
                    total_steps=total_steps,
                    continued=not new,
                    eval_sizes=eval_split.sizes(),
                )
            for line in lines:
                say(line)
        if new and parallel.is_main_process():
            experiment.write_weights(args.workdir, source)
        with parallel.together():
            if parallel.is_main_process():
                # The report at the end reads them, hours later.
                history.check_readable(args.workdir)
        with evaluation.profiled(args) as profile:
            stopped = training.train(
                config,
                args.workdir,
                make_stream=make_stream,
                evaluate=scores,
                program=program,
                total_steps=total_steps,
                start=start,
                profile=profile,
            )
        if stopped is not None:
            # As of a program that the signal ends, so that `train && eval` does not go on.
            return 128 + stopped
        evaluation.report(config, args.workdir, eval_split)
    return 0


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
