"""What is answered without JAX: seconds of whole commands, from their start to their end.

    python -m benchmarks.answers

Measures the command danet that is installed beside this interpreter, else `python -m danet_jax` of
this folder. The answers take turns. "CPU" is the time that processors worked for the command, which
other work on the machine changes less. The exit status is 1 where a median is above its limit.
"""

import argparse
import datetime
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import results
from benchmarks.worker import ROOT


class Answer(NamedTuple):
    """A command with its exit status, what it says, and the seconds that it may take."""

    arguments: tuple[str, ...]
    status: int
    says: str
    limit: float


class Seconds(NamedTuple):
    """What a command took."""

    elapsed: float
    cpu: float


ANSWERS = {
    "--help": Answer(("--help",), 0, "usage:", 0.5),
    "--version": Answer(("--version",), 0, "danet-jax ", 0.5),
    "a usage error": Answer(("train", "--epochs=3"), 2, "required: --workdir", 0.5),
    "a config error": Answer(
        ("train", "--workdir=none", "--config=camvid", "--config.train.epoch=3"), 2, "epochs", 1.0
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.answers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repetitions", type=int, default=10, help="of each (default: 10)")
    parser.add_argument("--json", type=results.place, help="file for the numbers")
    args = parser.parse_args()
    if args.repetitions < 1:
        parser.error("--repetitions takes whole numbers above 0")

    danet = Path(sys.executable).parent / "danet"
    command = (str(danet),) if danet.is_file() else (sys.executable, "-m", "danet_jax")
    load = os.getloadavg()[0]
    for answer in ANSWERS.values():
        _seconds(command, answer)  # The first start reads files that the others find in memory.
    seconds: dict[str, list[Seconds]] = {name: [] for name in ANSWERS}
    for _ in range(args.repetitions):
        for name, answer in ANSWERS.items():
            seconds[name].append(_seconds(command, answer))

    machine = f"{_processor()}, {os.cpu_count()} cores"
    print(f"{' '.join(command)} on {machine}, {datetime.date.today()}, load {load:.1f}")
    print(
        f"{'':16s}{'median':>8s}{'quartiles':>16s}{'least':>8s}{'most':>8s}{'CPU':>8s}{'limit':>8s}"
    )
    late = False
    for name, values in seconds.items():
        elapsed = [value.elapsed for value in values]
        low, median, high = np.percentile(elapsed, [25, 50, 75])
        cpu = np.median([value.cpu for value in values])
        limit = ANSWERS[name].limit
        late |= bool(median > limit)
        print(
            f"{name:16s}{median:8.3f}{f'{low:.3f} - {high:.3f}':>16s}{min(elapsed):8.3f}"
            f"{max(elapsed):8.3f}{cpu:8.3f}{limit:8.1f}"
        )
    if args.json:
        shown = {
            name: {field: [getattr(value, field) for value in values] for field in Seconds._fields}
            for name, values in seconds.items()
        }
        record = {"command": command, "machine": machine, "load": load, "seconds": shown}
        results.write_json(args.json, record)
    return int(late)


def _seconds(command: Sequence[str], answer: Answer) -> Seconds:
    """Runs a command to its end; the exit where it says anything else than expected."""
    used = _cpu()
    began = time.perf_counter()
    done = subprocess.run(
        [*command, *answer.arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    seconds = Seconds(time.perf_counter() - began, _cpu() - used)
    said = done.stdout + done.stderr
    if done.returncode != answer.status or answer.says not in said:
        sys.exit(f"{' '.join([*command, *answer.arguments])}: status {done.returncode}\n{said}")
    return seconds


def _cpu() -> float:
    """Processor seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor() -> str:
    """The processor's name, as Linux knows it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "a processor without a name"


if __name__ == "__main__":
    sys.exit(main())
