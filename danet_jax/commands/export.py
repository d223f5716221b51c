"""`export`: a run's model as files that run without this project."""

import argparse

from danet_jax.base.texts import show
from danet_jax.runs import folder as run_folder


def run(args: argparse.Namespace) -> None:
    config = run_folder.read_config(args.workdir)
    names, colors = run_folder.read_classes(args.workdir)
    weights = run_folder.read_weights(args.workdir)
    # JAX is imported after what can be checked without it.
    from danet_jax.evaluation.predictor import Predictor
    from danet_jax.interop import export as exporting
    from danet_jax.runtime.start import start

    start(announced=False)
    path = exporting.export(
        Predictor.from_workdir(args.workdir, step=args.step),
        args.output,
        kind=args.format,
        config=config,
        names=names,
        colors=colors,
        source={"workdir": args.workdir.name, "weights": weights},
    )
    show(f"{path}: verified, and described in {args.output / exporting.MANIFEST}")
