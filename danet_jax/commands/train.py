"""`train`: a run from its start, or on from its newest checkpoint, to its report."""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import input_pipeline
from danet_jax import experiment, parallel
from danet_jax.commands import eval as evaluation
from danet_jax.evaluation.predictor import Predictor
from danet_jax.models.danet import DANet
from danet_jax.training import train as training


def run(args: argparse.Namespace) -> None:
    config = experiment.choose_config(args.config, args.overrides, args.workdir)
    parallel.initialize(distributed=config.mesh.distributed)
    training.check_config(config)
    split = evaluation.open_split(config, config.data.train_split)
    eval_split = evaluation.open_split(config, config.data.eval_split)
    make_stream = functools.partial(
        input_pipeline.TrainingStream,
        split,
        config.data,
        seed=config.seed,
        batch_size=config.train.batch_size,
        **parallel.process(),
    )
    make_stream(next_batch=0).close()  # refuses faulty values before the workdir is touched
    total_steps = training.count_steps(config, len(split))

    def scores(
        model: DANet, variables: Any, should_stop: Callable[[], bool]
    ) -> dict[str, float] | None:
        found = evaluation.score(config, Predictor(model, variables), eval_split, should_stop)
        return None if found is None else found.scores.summary()

    with experiment.opened(config, args.workdir, fresh=args.fresh, labels=split.labels):
        done = training.train(
            config,
            args.workdir,
            make_stream=make_stream,
            evaluate=scores,
            total_steps=total_steps,
        )
        if done:
            evaluation.report(config, args.workdir, eval_split)
