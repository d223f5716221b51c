"""`main.py benchmark`: speed and memory on this machine, beside PyTorch."""

import argparse
import re
from importlib import util
from pathlib import Path

import jax
from rich.console import Console

from benchmarks import cases, compare, results
from danet_jax.base.errors import UserError
from danet_jax.base.files import check_output
from danet_jax.base.texts import show
from danet_jax.console.terminal import console, say
from danet_jax.network import create_model
from danet_jax.runs import config as configuration

# The width of the table where the output is no terminal.
WIDTH = 130
_PEER_PACKAGES = {"torch": "torch", "torch-compile": "torch", "mmseg": "mmseg"}


def run(args: argparse.Namespace) -> None:
    config = configuration.load_config(args.config, args.overrides)
    create_model(config.model)
    sizes = tuple(_size(text) for text in args.size) or (tuple(config.data.crop_size),)
    batch = args.batch
    if batch is None:
        batch = 1 if args.what in ("infer", "attention") else config.train.batch_size
    # The workers run in another folder.
    config.data.data_dir = str(Path(config.data.data_dir).absolute())
    if args.repetitions < 1 or batch < 1:
        raise UserError("--repetitions and --batch take whole numbers above 0.")
    for peer in args.peer:
        if util.find_spec(_PEER_PACKAGES[peer]) is None:
            raise UserError(
                f"--peer={peer}: {_PEER_PACKAGES[peer]} is not installed; `make test-parity` or "
                "requirements-parity.txt and requirements-mmsegmentation.txt install it."
            )
    # Only the workers may hold an accelerator.
    jax.config.update("jax_platforms", "cpu")
    folder = args.workdir / "benchmark"
    check_output("--workdir", folder)
    path = folder / f"{args.what}.json"
    for place in (path, path.with_suffix(".png")):
        results.check_place(place)
    groups = cases.groups(
        config, args.what, tuple(args.peer), sizes=sizes, batch=batch, passes=tuple(args.passes)
    )
    machine = compare.probe(config)
    records = compare.measure(
        config,
        args.what,
        groups,
        repetitions=args.repetitions,
        platform_name=machine.platform,
        say=say,
    )
    title = f"{args.what}: {config.model.backbone}, {config.model.dtype}, {machine.name}"
    Console(width=None if console.is_terminal else WIDTH).print(
        compare.table(records, rate=machine.rate, title=title)
    )
    failed = [record for record in records if "failed" in record]
    if not any(record["seconds"] for record in records):
        reasons = dict.fromkeys(record["failed"] for record in failed)
        raise UserError(f"Nothing could be measured, and nothing was written: {'; '.join(reasons)}")
    for record in failed:
        say(f"{record['case']['name']}, {record['side']}: {record['failed']}")

    folder.mkdir(parents=True, exist_ok=True)
    numbers = {
        "what": args.what,
        "config": config.to_dict(),
        "machine": machine.name,
        "versions": compare.versions(),
        "matmul_operations_per_second": machine.rate,
        "records": records,
    }
    results.write_json(path, numbers)
    results.write_png(path.with_suffix(".png"), compare.plot(records, title=title))
    show(f"numbers: {path}; plot: {path.with_suffix('.png')}")


def _size(text: str) -> tuple[int, int]:
    sides = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if not sides or "0" in sides.groups():
        raise UserError(f"--size={text}: give HEIGHTxWIDTH, such as 512x1024.")
    return int(sides[1]), int(sides[2])
