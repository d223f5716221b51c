"""`eval`: the scores of a run and their report."""

import argparse

from danet_jax.evaluation.eval_config import check_overrides
from danet_jax.runs import folder as run_folder
from danet_jax.runtime import devices, parallel
from danet_jax.runtime.profiling import profiled
from danet_jax.tasks.evaluate import evaluate


def run(args: argparse.Namespace) -> None:
    config = run_folder.read_config(args.workdir)
    # Evaluation does not need the processes that trained.
    config.mesh.distributed = False
    before = config.eval.copy_and_resolve_references()
    config = run_folder.override_run(config, args.overrides)
    check_overrides(config.eval, args.overrides, before=before)
    parallel.initialize(distributed=config.mesh.distributed)
    devices.announce()
    with profiled(args.workdir, asked=args.profile) as profile:
        evaluate(
            config,
            args.workdir,
            split=args.split,
            step=args.step,
            submission_folder=args.submission,
            profile=profile,
        )
