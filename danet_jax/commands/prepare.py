"""`prepare`: a data set to disk."""

import argparse

import input_pipeline
from danet_jax import experiment


def run(args: argparse.Namespace) -> None:
    data = experiment.load_config(args.config, args.overrides).data
    counts = input_pipeline.prepare(data.name, data_dir=data.data_dir, source=args.source)
    splits = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"{data.name} is prepared in {data.data_dir}: {splits} examples")
