"""`inspect`: a page that shows training examples after augmentation."""

import argparse

from danet_jax.base.errors import UserError
from danet_jax.base.texts import show
from danet_jax.base.wording import counted
from danet_jax.configs import rules
from danet_jax.console.terminal import say
from danet_jax.runs import config as configuration


def run(args: argparse.Namespace) -> None:
    if args.examples < 1:
        raise UserError(f"--examples is {args.examples}; give 1 or more.")
    config = configuration.load_config(args.config, args.overrides)
    rules.check(config)
    # TFDS is imported after what can be checked without it.
    from danet_jax.tasks.dataset_pages import write_inspection

    page, warnings = write_inspection(config, args.examples)
    for warning in warnings:
        say(f"warning: {warning}")
    examples = counted(args.examples, "example")
    show(f"{examples} of {config.data.name} as its training sees them: {page}")
