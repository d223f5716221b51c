"""`eval`: the scores of a run and their report."""

import argparse

from danet_jax.evaluation.presets import check_overrides
from danet_jax.runs import folder as run_folder
from danet_jax.runtime import launchers, supervision


def run(args: argparse.Namespace) -> None:
    config = run_folder.read_config(args.workdir)
    # Evaluation does not need the processes that trained, nor does it need as many.
    config.mesh.distributed = None
    before = config.eval.copy_and_resolve_references()
    config = run_folder.override_run(config, args.overrides)
    check_overrides(config.eval, args.overrides, before=before)
    if launchers.is_one_of_several(config.mesh.distributed):
        supervision.supervise()
    # JAX is imported after what can be checked without it.
    from danet_jax.runtime.profiling import profiled
    from danet_jax.runtime.start import start
    from danet_jax.tasks.evaluate import evaluate

    start(distributed=config.mesh.distributed)
    with profiled(args.workdir, asked=args.profile) as profile:
        evaluate(
            config,
            args.workdir,
            split=args.split,
            step=args.step,
            submission_folder=args.submission,
            profile=profile,
        )
