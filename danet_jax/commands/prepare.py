"""`prepare`: a data set to disk, and what is in it to a page."""

import argparse

import input_pipeline
from danet_jax import configuration


def run(args: argparse.Namespace) -> None:
    data = configuration.load_config(args.config, args.overrides).data
    counts = input_pipeline.prepare(
        data.name, data_dir=data.data_dir, source=args.source, storage=args.storage
    )
    # Here, since Matplotlib takes longer than to find a mistake in the source.
    from danet_jax.commands import inspect

    page = inspect.write_survey(data)
    splits = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"{data.name} is prepared in {data.data_dir}: {splits} examples; look at {page}")
