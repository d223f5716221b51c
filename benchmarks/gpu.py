"""What matters on one GPU, in less than eight minutes: `make benchmark-gpu`.

    python -m benchmarks.gpu [--json FILE]

Training and inference of the published ResNet-101 at 768x768 in bfloat16 beside PyTorch (channels
last, bfloat16 autocast, eager and compiled), then position attention, the stem with three input
channels and more, and convolutions' weight gradients by each method. What the time does not
suffice for is reported as missing. Without PyTorch there are no peers.
"""

import argparse
import signal
import sys
import time
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
from rich.console import Console

from benchmarks import cases, compare, results
from benchmarks.cases import Group, Participant
from danet_jax.configs import cityscapes

MINUTES = 7.5
PEERS = ("torch", "torch-compile")
# Input channels of the stem; those above three are zeros.
STEM_CHANNELS = (3, 4, 8)
# The dilated convolutions and the head's, of which the weight gradient is the question; with toys
# it is only whether they run.
SLOWEST, SLOWEST_TOYS = 5, 2


class Part(NamedTuple):
    """A part of the table."""

    title: str
    what: str
    groups: list[Group]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after which it ends")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="small enough for a CPU, to try it")
    parser.add_argument("--no-peers", action="store_true", help="without PyTorch")
    parser.add_argument("--json", type=results.place, help="file for the numbers")
    args = parser.parse_args()
    # The exception closes the workers, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))

    until = time.monotonic() + 60 * args.minutes
    config, size, batches = experiment(toy=args.toy)
    # Only the workers may hold the GPU.
    jax.config.update("jax_platforms", "cpu")
    machine = compare.probe(config, until=until)
    if machine.platform == "cpu" and not args.toy:
        sys.exit("JAX finds no GPU here; --toy tries this script on the CPU.")
    records: list[tuple[Part, list[compare.Record]]] = []
    peers = () if args.no_peers or not util.find_spec("torch") else PEERS
    slowest = SLOWEST_TOYS if args.toy else SLOWEST
    for part in parts(config, size, batches, peers, slowest=slowest):
        print(f"-- {part.title}", flush=True)
        measured = compare.measure(
            config,
            part.what,
            part.groups,
            repetitions=args.repetitions,
            platform_name=machine.platform,
            until=until,
        )
        records.append((part, measured))
        if args.json:
            # The file is written after each part, so that a later failure loses none.
            write(args.json, config, machine, records)
    console = Console(width=None if sys.stdout.isatty() else 140)
    for part, measured in records:
        title = f"{part.title}: {config.model.backbone}, {config.model.dtype}, {machine.name}"
        console.print(compare.table(measured, rate=machine.rate, title=title))


def experiment(*, toy: bool) -> tuple[ml_collections.ConfigDict, tuple[int, int], tuple[int, ...]]:
    """Returns the config, the images' size and the batches, the largest first."""
    config = cityscapes.get_config()
    config.model.dtype = "bfloat16"
    if not toy:
        return config, (768, 768), (8, 4, 2)
    config.model.update(backbone="resnet10", width=8)
    return config, (64, 64), (2, 1)


def parts(
    config: ml_collections.ConfigDict,
    size: tuple[int, int],
    batches: tuple[int, ...],
    peers: tuple[str, ...],
    *,
    slowest: int,
) -> list[Part]:
    """Returns what is measured, the most important first."""
    eager = peers[:1]
    options: dict[str, Any] = {"sizes": (size,), "batch": batches[0]}
    made = [
        Part("a training step", "train", cases.groups(config, "train", peers, **options)),
        Part("inference", "infer", cases.groups(config, "infer", peers, **options)),
        Part("attention", "attention", cases.groups(config, "attention", eager, **options)),
        Part("the stem, forward and weight gradient", "conv", [stem(config, size, batches[0])]),
    ]
    chosen = []
    for batch in batches:
        (whole,) = cases.groups(config, "conv", eager, sizes=(size,), batch=batch)
        ordered = sorted(whole.cases, key=lambda case: -case["dilation"] * case["operations"])
        chosen += [case | {"name": f"batch {batch}: {case['name']}"} for case in ordered[:slowest]]
    gradients = Group(whole.participants, tuple(chosen), shared=True)
    return [*made, Part("weight gradients", "conv", [gradients])]


def stem(config: ml_collections.ConfigDict, size: tuple[int, int], batch: int) -> Group:
    """Returns the first convolution with three and more input channels."""
    participant = Participant("danet-jax", "danet-jax", "auto")
    (whole,) = cases.groups(config, "conv", (), sizes=(size,), batch=batch)
    first = whole.cases[0]
    made = [
        first
        | {"inputs": channels, "forward": True, "name": f"{channels} input channels"}
        | {"operations": 2 * first["operations"]}
        for channels in STEM_CHANNELS
    ]
    return Group((participant,), tuple(made), shared=True)


def write(
    path: Path,
    config: ml_collections.ConfigDict,
    machine: compare.Machine,
    records: list[tuple[Part, list[compare.Record]]],
) -> None:
    """Writes all numbers."""
    whole = {
        "machine": machine._asdict(),
        "versions": compare.versions(),
        "config": config.to_dict(),
        "parts": [{"title": part.title, "records": measured} for part, measured in records],
    }
    results.write_json(path, whole)


if __name__ == "__main__":
    main()
