"""`predict`: labels, overlays and class shares of a person's images."""

import argparse

import input_pipeline
from danet_jax import experiment
from danet_jax.evaluation.predictor import Predictor
from danet_jax.visualization.predictions import write_predictions


def run(args: argparse.Namespace) -> None:
    names, colors = experiment.read_classes(args.workdir)
    written = write_predictions(
        Predictor.from_workdir(args.workdir, step=args.step),
        input_pipeline.find_images(args.input),
        args.output,
        read_image=input_pipeline.read_image,
        root=args.input if args.input.is_dir() else args.input.parent,
        names=names,
        colors=colors,
    )
    print(f"{len(written)} images: labels, overlays and class shares are in {args.output}")
