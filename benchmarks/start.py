"""The start of training: seconds to the first step, with nothing compiled yet and once more.

    python -m benchmarks.start --config=configs/synthetic_scenes.py --config.train.batch_size=2

The data set must be prepared. Each start is `python main.py train` in a folder of its own, which is
ended after its second step.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import results
from benchmarks.worker import ROOT

CACHES = ("empty cache", "filled cache")
POLL_SECONDS = 0.01


class Start(NamedTuple):
    """Seconds since the command was given."""

    # Until the first step is done.
    first_step: float
    # The same without that step, by the time that the second one took.
    before_it: float


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start",
        usage="%(prog)s --config=FILE.py [--config.FIELD=VALUE …] [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repetitions", type=int, default=5, help="pairs of starts (default: 5)")
    parser.add_argument("--json", type=results.place, help="file for the numbers")
    args, train_arguments = parser.parse_known_args()
    if args.repetitions < 1:
        parser.error("--repetitions takes whole numbers above 0")
    if not any(argument.partition("=")[0] == "--config" for argument in train_arguments):
        parser.error("--config=FILE.py is missing: what to train")
    # The exception ends the process that was started as well.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))

    starts: dict[str, list[Start]] = {name: [] for name in CACHES}
    for _ in range(args.repetitions):
        with tempfile.TemporaryDirectory() as cache:
            for name in CACHES:
                starts[name].append(_start(train_arguments, cache))
                print(f"{name}: first step done after {starts[name][-1].first_step:.1f} s")
    shown = {
        name: {field: [getattr(start, field) for start in cache_starts] for field in Start._fields}
        for name, cache_starts in starts.items()
    }
    if args.json:
        results.write_json(args.json, {"arguments": train_arguments, "seconds": shown})
    medians = {}
    for name, fields in shown.items():
        for field, seconds in fields.items():
            low, medians[name, field], high = np.percentile(seconds, [25, 50, 75])
            words = f"{medians[name, field]:.1f} s (quartiles {low:.1f} - {high:.1f})"
            print(f"{name:<14}{field.replace('_', ' '):<12}{words}")
    for field in Start._fields:
        ratio = medians[CACHES[0], field] / medians[CACHES[1], field]
        print(f"sooner, {field.replace('_', ' ')}: {ratio:.2f} times")


def _start(train_arguments: list[str], cache: str) -> Start:
    """Trains two steps with the cache of compiled programs in a folder."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        workdir = Path(folder) / "run"
        began = time.perf_counter()
        process = subprocess.Popen(
            [
                *(sys.executable, "main.py", "train", *train_arguments),
                *("--config.train.log_every=1", f"--workdir={workdir}"),
            ],
            cwd=ROOT,
            env=os.environ | {"XDG_CACHE_HOME": cache},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        times = []
        try:
            for step in (1, 2):
                while step not in _steps(workdir / "metrics.jsonl"):
                    if process.poll() is not None:
                        errors.seek(0)
                        sys.exit(errors.read().strip() or f"training ended before step {step}")
                    time.sleep(POLL_SECONDS)
                times.append(time.perf_counter() - began)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    first, second = times
    return Start(first, first - (second - first))


def _steps(file: Path) -> list[int]:
    """The training steps that a run has logged so far."""
    if not file.is_file():
        return []
    # The last line may be incomplete.
    records = [json.loads(line) for line in file.read_text().split("\n")[:-1]]
    return [record["step"] for record in records if "loss" in record]


if __name__ == "__main__":
    main()
