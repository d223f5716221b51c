"""`predict`: labels, overlays and class shares of a person's images."""

import argparse

import input_pipeline
from danet_jax import experiment
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.settings import check_overrides, predictor_options
from danet_jax.terminal import say
from danet_jax.visualization.predictions import write_predictions
from danet_jax.wording import counted, listed


def run(args: argparse.Namespace) -> None:
    config = experiment.override_run(experiment.read_config(args.workdir), args.overrides)
    check_overrides(config.eval, args.overrides)
    names, colors = experiment.read_classes(args.workdir)
    # Before the checkpoint, which takes longer to read.
    images, others = input_pipeline.find_images(args.input)
    if others:
        left_out = listed(file.name for file in others)
        say(f"left out, as not of a kind that is read here: {left_out}")
    written = write_predictions(
        Predictor.from_workdir(
            args.workdir, step=args.step, config=config, **predictor_options(config.eval)
        ),
        images,
        args.output,
        read_image=input_pipeline.read_image,
        root=args.input if args.input.is_dir() else args.input.parent,
        names=names,
        colors=colors,
    )
    print(
        f"{counted(len(written), 'image')}: labels, overlays and class shares are in {args.output}"
    )
