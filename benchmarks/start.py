"""The start of training: seconds to the first step, with nothing compiled yet and once more.

    python -m benchmarks.start --config=configs/synthetic_scenes.py --config.train.batch_size=2

The data set must be prepared. Each start is `python main.py train` in a new folder, which is ended
after its second step.
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

from benchmarks.turns import ROOT

CACHES = ("empty cache", "filled cache")
POLL_SECONDS = 0.02


class Start(NamedTuple):
    """Seconds since the command was given."""

    # Until the first step is done.
    first_step: float
    # The same without that step, by the time that the second one took.
    before_it: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args, of_training = parser.parse_known_args()

    starts: dict[str, list[Start]] = {name: [] for name in CACHES}
    for _ in range(args.repetitions):
        with tempfile.TemporaryDirectory() as cache:
            for name in CACHES:
                starts[name].append(_start(of_training, cache))
                print(f"{name}: first step done after {starts[name][-1].first_step:.1f} s")
    shown = {
        name: {
            field: [round(getattr(start, field), 2) for start in of_cache]
            for field in Start._fields
        }
        for name, of_cache in starts.items()
    }
    if args.json:
        args.json.write_text(json.dumps({"arguments": of_training, "seconds": shown}, indent=1))
    medians = {}
    for name, fields in shown.items():
        for field, seconds in fields.items():
            low, medians[name, field], high = np.percentile(seconds, [25, 50, 75])
            words = f"{medians[name, field]:.1f} s (quartiles {low:.1f} - {high:.1f})"
            print(f"{name:<14}{field.replace('_', ' '):<12}{words}")
    for field in Start._fields:
        ratio = medians[CACHES[0], field] / medians[CACHES[1], field]
        print(f"sooner, {field.replace('_', ' ')}: {ratio:.2f} times")


def _start(of_training: list[str], cache: str) -> Start:
    """Trains two steps, with the programs that the folder keeps."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "main.py", "train", f"--workdir={workdir}/run", *of_training]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--config.train.log_every=1"],
            cwd=ROOT,
            env=os.environ | {"XDG_CACHE_HOME": cache},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            file = Path(workdir) / "run" / "metrics.jsonl"
            first, second = (_time_of_record(process, file, number) - began for number in (1, 2))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Start(first, first - (second - first))


def _time_of_record(process: subprocess.Popen, file: Path, number: int) -> float:
    """Waits until a run has written so many records, one for each step."""
    while not file.is_file() or file.read_text().count("\n") < number:
        if process.poll() is not None:
            raise SystemExit(process.communicate()[1])
        time.sleep(POLL_SECONDS)
    return time.perf_counter()


if __name__ == "__main__":
    main()
