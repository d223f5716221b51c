"""`train`: trains a run from the start or from its newest checkpoint, and writes its report."""

import argparse

from danet_jax.evaluation.eval_config import check_overrides
from danet_jax.runs import folder as run_folder
from danet_jax.runtime import devices, parallel
from danet_jax.tasks.train import train
from danet_jax.training import settings


def run(args: argparse.Namespace) -> int:
    config = run_folder.choose_config(args.config, args.overrides, args.workdir)
    check_overrides(config.eval, args.overrides)
    settings.check_overrides(config, args.overrides)
    parallel.initialize(distributed=config.mesh.distributed, stop_together=True)
    devices.announce()
    stopped = train(config, args.workdir, fresh=args.fresh, profile=args.profile)
    # A program that a signal ends has this status, so that `train && eval` does not go on.
    return 0 if stopped is None else 128 + stopped
