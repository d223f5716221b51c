"""`import-torch`: a workdir from PyTorch's weights, to evaluate, predict and train on with."""

import argparse

from danet_jax.configs import rules
from danet_jax.runs import config as configuration


def run(args: argparse.Namespace) -> None:
    config = configuration.load_config(args.config, args.overrides)
    rules.check(config)
    # JAX is imported after what can be checked without it.
    from danet_jax.runtime.start import start
    from danet_jax.tasks.import_torch import import_torch

    start(announced=False)
    import_torch(
        config,
        args.workdir,
        args.checkpoint,
        allow_partial=args.allow_partial,
        fresh=args.fresh,
    )
