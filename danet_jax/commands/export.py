"""`export`: a run's model as files that run without this project, or as a folder to share."""

import argparse

from danet_jax.base.files import check_output
from danet_jax.base.texts import show
from danet_jax.interop import weights_files
from danet_jax.runs import folder as run_folder
from danet_jax.runs.origin import shared_source


def run(args: argparse.Namespace) -> None:
    config = run_folder.read_config(args.workdir)
    names, colors = run_folder.read_classes(args.workdir)
    source = shared_source(args.workdir)
    check_output("--output", args.output, empty=True)
    # JAX is imported after what can be checked without it.
    if args.format == weights_files.FORMAT:
        from danet_jax.runtime.start import start
        from danet_jax.tasks.weights_folder import export_folder

        start(announced=False)
        path = export_folder(args.workdir, args.output, step=args.step)
        show(f"{path}: read back and compared; fill in the licence in {weights_files.CARD_FILE}")
        return
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
        source=source,
    )
    show(f"{path}: verified, and described in {args.output / exporting.MANIFEST}")
