"""Compiles the step of training for NVIDIA GPUs that are not here: `make compile-check`.

    python -m benchmarks.compile_check [--gpus 1 8] [--backbone resnet50 resnet101]
      [--dtype float32 bfloat16] [--size 768x768] [--config=FILE.py] [--config.FIELD=VALUE …]

XLA's compiler for GPUs needs JAX's CUDA plugin, but neither a GPU nor a driver. What comes out is
the program that a GPU would run, its memory, and the compiler's errors; no time, and nothing is
autotuned. Each program is compiled in a process of its own, as a compiler that aborts takes its
process along. The exit status is 1 where one does not compile.
"""

import argparse
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import ml_collections
from jax.experimental import topologies

from benchmarks.worker import ROOT
from danet_jax.base.errors import UserError
from danet_jax.runs import config as configuration
from danet_jax.runtime import parallel
from danet_jax.training.setup import set_up

TARGET = Path(__file__).with_name("h100.txtpb")
CONFIG = "configs/cityscapes.py"
TOTAL_STEPS = 1000
GIB = 2**30
# JAX must not look for a GPU or its driver.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1"}
_LIBRARIES = ("jax", "jaxlib", "nvidia-cudnn-cu12", "nvidia-cudnn-cu13")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compile_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default=CONFIG, help=f"FILE.py[:ARGUMENT] (default: {CONFIG})")
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 8], help="of one machine")
    parser.add_argument("--backbone", nargs="+", default=["resnet50", "resnet101"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--size", default="768x768", help="HEIGHTxWIDTH of a crop")
    parser.add_argument("--batch", type=int, default=8, help="images a GPU (default: 8)")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args, overrides = parser.parse_known_args()
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", args.size):
        parser.error(f"--size {args.size}: give HEIGHTxWIDTH, such as 768x768")
    if min(args.batch, *args.gpus) < 1:
        parser.error("--batch and --gpus take whole numbers above 0")
    if args.json and not args.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}")
    try:
        config = configuration.load_config(args.config, overrides)
    except UserError as error:
        parser.error(str(error))
    # The exception ends the process that was started as well.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))

    config.data.crop_size = tuple(int(side) for side in args.size.split("x"))
    records = []
    for backbone, dtype, gpus in itertools.product(args.backbone, args.dtype, args.gpus):
        with config.unlocked():
            config.model.update(backbone=backbone, dtype=dtype)
            config.train.batch_size = args.batch * gpus
        records.append(compile_apart(config, gpus))
        print(described(records[-1]), flush=True)
        if args.json:
            # The file is written after each program, so that a later failure loses none.
            whole = {"versions": versions(), "target": TARGET.stem, "programs": records}
            args.json.write_text(json.dumps(whole, indent=2) + "\n")
    sys.exit(any("failed" in record for record in records))


def compile_apart(config: ml_collections.ConfigDict, gpus: int) -> dict[str, Any]:
    """Compiles in a process of its own; returns memory in bytes, or how it "failed"."""
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", "from benchmarks import compile_check; compile_check.serve()"],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        input=json.dumps({"config": config.to_dict(), "gpus": gpus}),
        capture_output=True,
        text=True,
    )
    record = {
        "backbone": config.model.backbone,
        "dtype": config.model.dtype,
        "crop_size": list(config.data.crop_size),
        "batch_size": config.train.batch_size,
        "gpus": gpus,
        "seconds": time.monotonic() - began,
    }
    if process.returncode:
        return record | {"failed": _reason(process)}
    return record | json.loads(process.stdout.splitlines()[-1])


def _reason(process: subprocess.CompletedProcess[str]) -> str:
    """Why a process failed: the check that aborted it, else the last line of its traceback."""
    lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
    said = [line for line in lines if "Check failed" in line] or lines[-1:] or ["it said nothing"]
    if process.returncode < 0:
        return f"the compiler ended by {signal.Signals(-process.returncode).name}: {said[0]}"
    return said[0]


def serve() -> None:
    """Compiles what standard input says; writes the program's memory as a line of JSON."""
    task = json.load(sys.stdin)
    config = configuration.restore(task["config"])
    memory = compiled(config, task["gpus"]).memory_analysis()
    print(
        json.dumps(
            {
                "argument_bytes": memory.argument_size_in_bytes,
                "temporary_bytes": memory.temp_size_in_bytes,
            }
        )
    )


def compiled(config: ml_collections.ConfigDict, gpus: int) -> Any:
    """Returns the step of a run on the GPUs of one machine, compiled for them."""
    mesh = parallel.create_mesh(space=config.mesh.space, devices=absent_gpus(gpus))
    parallel.check_divisible(
        mesh,
        batch_size=config.train.batch_size // config.train.accumulation_steps,
        height=config.data.crop_size[0],
    )
    with jax.set_mesh(mesh):
        step: Any = set_up(config, mesh, TOTAL_STEPS).cached_step().compiled
    return step.program


def absent_gpus(number: int) -> list[jax.Device]:
    """Returns devices of a machine that is not here, which programs can be compiled for."""
    # The shape is slices × hosts × GPUs of a host.
    shape = f"1x1x{number}"
    return topologies.get_topology_desc(
        TARGET.stem, "cuda", target_config=TARGET.read_text(), topology=shape
    ).devices


def described(record: dict[str, Any]) -> str:
    """Returns a line for a person."""
    size = "×".join(map(str, record["crop_size"]))
    gpus = "1 GPU" if record["gpus"] == 1 else f"{record['gpus']} GPUs"
    name = f"{record['backbone']}, {record['dtype']}, {size}, batch {record['batch_size']}, {gpus}"
    if "failed" in record:
        return f"{name}: does not compile: {record['failed']}"
    return (
        f"{name}: compiled in {record['seconds']:.0f} s; on each GPU "
        f"{record['argument_bytes'] / GIB:.2f} GiB of arguments, "
        f"{record['temporary_bytes'] / GIB:.2f} GiB of temporaries"
    )


def versions() -> dict[str, str]:
    """Returns the versions of what compiles."""
    installed = {}
    for name in _LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


if __name__ == "__main__":
    main()
