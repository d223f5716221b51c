"""`check-submission`: whether a folder is what a benchmark's server takes."""

import argparse

from danet_jax.base.texts import show
from danet_jax.base.wording import counted
from danet_jax.runs import config as configuration


def run(args: argparse.Namespace) -> None:
    config = configuration.load_config(args.config, args.overrides)
    # TFDS is imported after what can be checked without it.
    from danet_jax import input_pipeline
    from danet_jax.evaluation import submission

    form = submission.format_of(config.data.name)
    split = input_pipeline.open_split(config.data.name, args.split, data_dir=config.data.data_dir)
    submission.check(
        args.input, form, ids=split.labels.raw_ids, sizes=submission.image_sizes(split, form)
    )
    show(f"{args.input} holds what the server takes: the labels of {counted(len(split), 'image')}")
