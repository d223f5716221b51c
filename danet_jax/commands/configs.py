"""`configs`: the experiments that come with this package, and their arguments."""

import argparse

from danet_jax.base.texts import show
from danet_jax.base.wording import program
from danet_jax.runs import experiments


def run(args: argparse.Namespace) -> None:
    del args
    for name, path in experiments.shipped().items():
        show(f"{name:<17}{experiments.title(path)}")
        show(f"{'':<17}arguments: {', '.join(experiments.arguments(path))}")
    show(f"What an argument means: {program()} config --config=NAME:help")
    show(f"All fields and their values: {program()} config --config=NAME[:ARGUMENTS]")
