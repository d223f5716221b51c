"""`predict`: labels, overlays and class shares of a person's images."""

import argparse

from danet_jax import input_pipeline
from danet_jax.base.texts import show
from danet_jax.base.wording import counted, listed
from danet_jax.console.terminal import say
from danet_jax.evaluation.presets import check_overrides
from danet_jax.runs import folder as run_folder


def run(args: argparse.Namespace) -> None:
    config = run_folder.read_config(args.workdir)
    before = config.eval.copy_and_resolve_references()
    config = run_folder.override_run(config, args.overrides)
    check_overrides(config.eval, args.overrides, before=before)
    # Images are found before JAX is imported and the checkpoint is read, which take longer.
    listing = input_pipeline.find_images(args.input)
    if listing.others:
        left_out = listed(file.name for file in listing.others)
        say(f"skipped, as the file format is not supported: {left_out}")
    if listing.left_out:
        say(f"skipped, as it cannot be read: {listed(listing.left_out)}")
    from danet_jax.evaluation.predictor import Predictor
    from danet_jax.runtime.start import start
    from danet_jax.visualization.predictions import write_predictions

    start()
    predictor = Predictor.from_workdir(args.workdir, step=args.step, config=config)
    predictor.expect(input_pipeline.sizes_of_files(listing.images))
    written = write_predictions(
        predictor,
        listing.images,
        args.output,
        read_image=input_pipeline.read_image,
        root=args.input if args.input.is_dir() else args.input.parent,
        names=predictor.names or (),
        colors=predictor.colors or (),
        searched=args.input.is_dir(),
    )
    show(
        f"{counted(len(written), 'image')}: labels, overlays and class shares are in {args.output}"
    )
