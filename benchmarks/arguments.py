"""Arguments of `main.py benchmark`; `--help` needs them before JAX is imported."""

import argparse
from pathlib import Path

from danet_jax.commands.arguments import CONFIG_HELP, Command

MEASURED = ("train", "infer", "attention", "conv", "loss", "input")
PEERS = ("torch", "torch-compile", "mmseg")
PASSES = ("forward", "gradient")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that `benchmarks.command.run` reads."""
    parser.add_argument("--config", required=True, help=CONFIG_HELP)
    parser.add_argument(
        "--workdir", required=True, type=Path, help="folder for the numbers and their plot"
    )
    parser.add_argument(
        "--what",
        default="train",
        choices=MEASURED,
        help="a training step (default), inference on images, or one operation alone",
    )
    parser.add_argument(
        "--peer",
        nargs="+",
        action="extend",
        default=[],
        choices=PEERS,
        help="what to compare with, interleaved: PyTorch, compiled PyTorch, mmsegmentation",
    )
    parser.add_argument(
        "--size",
        nargs="+",
        default=[],
        metavar="HEIGHTxWIDTH",
        help="of images; default: config.data.crop_size",
    )
    parser.add_argument(
        "--batch",
        type=int,
        help="batch size; default: config.train.batch_size, 1 for infer and attention",
    )
    parser.add_argument(
        "--passes", nargs="+", default=PASSES, choices=PASSES, help="of attention; default: both"
    )
    parser.add_argument(
        "--repetitions", type=int, default=5, help="for each participant; default: 5"
    )


BENCHMARK = Command(
    name="benchmark",
    help="measure speed and memory on this machine, beside PyTorch",
    module="benchmarks.command",
    add_arguments=add_arguments,
)
