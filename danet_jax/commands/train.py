"""`train`: trains a run from the start or from its newest checkpoint, and writes its report."""

import argparse

from danet_jax.configs import rules
from danet_jax.evaluation.presets import check_overrides
from danet_jax.runs import folder as run_folder
from danet_jax.runtime import launchers, supervision


def run(args: argparse.Namespace) -> int:
    config = run_folder.choose_config(args.config, args.overrides, args.workdir)
    check_overrides(config.eval, args.overrides)
    rules.check_overrides(config, args.overrides)
    rules.check(config)
    if launchers.is_one_of_several(config.mesh.distributed):
        supervision.supervise()
    # JAX is imported after what can be checked without it.
    from danet_jax.runtime.start import start
    from danet_jax.tasks.train import train

    start(distributed=config.mesh.distributed, stop_together=True)
    stopped = train(config, args.workdir, fresh=args.fresh, profile=args.profile)
    # A program that a signal ends has this status, so that `train && eval` does not go on.
    return 0 if stopped is None else 128 + stopped
