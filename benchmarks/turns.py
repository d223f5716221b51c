"""Processes that take turns, so that a noisy machine is noisy for all of them."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A repetition lasts at least so long: quick programs run several times in it.
SECONDS = 0.2
ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """A side could not do what it was asked; the text says why."""


@dataclasses.dataclass
class Program:
    """What a side runs in its turn; it returns when all is done, also on a device."""

    call: Callable[[], Any]
    # Bytes that the program holds beside its arguments and results; None where nobody counts them.
    temporaries: int | None = None
    # Seconds of a unit of work, for what goes on between calls; None: those of a call.
    seconds: Callable[[], float] | None = None


class Worker:
    """One side's process."""

    def __init__(self, task: dict[str, Any]):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", json.dumps(task)],
            cwd=ROOT,
            # On a GPU the sides share its memory.
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the answer; raises Failed with the process's last words."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer = json.loads(line)
                if "failed" in answer:
                    raise Failed(answer["failed"])
                return answer
        raise Failed(self._last_words())

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return f"ended with status {status}: {said[-300:]}"


def serve(build: Callable[[dict[str, Any]], Program], peak: Callable[[], int]) -> None:
    """Answers requests of standard input until it ends.

    {"case": …} prepares a program, {"run": true} runs it for a while, {"peak": true} gives memory.

    Args:
      build: returns the program of a request's case.
      peak: returns the bytes that were held at most.
    """
    program, number = None, 1
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "case" in request:
                # The last one's arrays make place for the next one's.
                program = None
                began = time.perf_counter()
                program = build(request["case"])
                value = program.call()
                answer = {"first": time.perf_counter() - began, "value": value}
                answer["temporaries"] = program.temporaries
                if not program.seconds:
                    began = time.perf_counter()
                    program.call()
                    number = max(round(SECONDS / max(time.perf_counter() - began, 1e-6)), 1)
            elif "run" in request:
                assert program
                began = time.perf_counter()
                if program.seconds:
                    answer = {"seconds": program.seconds()}
                else:
                    for _ in range(number):
                        program.call()
                    answer = {"seconds": (time.perf_counter() - began) / number}
            else:
                answer = {"peak": peak()}
        except Exception as error:  # to be shown in the table, beside what the others measured
            answer = {"failed": f"{type(error).__name__}: {str(error).strip()[:300]}"}
        print(json.dumps(answer), flush=True)


def peak() -> int:
    """Returns the bytes that this program held at most, without the one that started it."""
    if (found := _status("VmHWM")) is not None:
        return found
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def resident() -> int:
    """Returns the bytes that this program holds now; 0 where the system does not say."""
    return _status("VmRSS") or 0


def _status(name: str) -> int | None:
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None


def limit_memory() -> None:
    """An error in place of a killed machine where a program wants more than there is."""
    import resource

    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_AS, (physical, physical))
