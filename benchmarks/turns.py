"""Processes that take turns, so that a noisy machine is noisy for all of them."""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

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
    # What a call computes, in the order and layout that both sides share; None where its value
    # tells.
    arrays: Callable[[], list[Any]] | None = None


class Worker:
    """One side's process; it starts with the first request, so as not to disturb another one's.

    Args:
      task: what `benchmarks.side` takes.
      until: of `time.monotonic`, when it is killed whatever it does; None for never.
    """

    def __init__(self, task: dict[str, Any], *, until: float | None = None):
        self._task, self._until = task, until
        self._late = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the answer; raises Failed with the process's last words."""
        process = self._process
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(request) + "\n")
        except BrokenPipeError:
            raise Failed(self._last_words()) from None
        for line in process.stdout:
            if line.startswith("{"):
                answer = json.loads(line)
                if "failed" in answer:
                    raise Failed(answer["failed"])
                return answer
        raise Failed(self._last_words())

    def close(self) -> None:
        """Ends the process."""
        self._closing.close()

    @functools.cached_property
    def _closing(self) -> contextlib.ExitStack:
        return contextlib.ExitStack()

    @functools.cached_property
    def _errors(self) -> IO[bytes]:
        return self._closing.enter_context(tempfile.TemporaryFile())

    @functools.cached_property
    def _process(self) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", json.dumps(self._task)],
            cwd=ROOT,
            env=self._environment(),
            # With its own processes, so that all of them can be ended.
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )
        self._closing.callback(process.communicate)
        self._closing.callback(_kill, process)
        if self._until is not None:
            timer = threading.Timer(max(self._until - time.monotonic(), 0), self._stop, [process])
            timer.daemon = True
            timer.start()
            self._closing.callback(timer.cancel)
        return process

    def _stop(self, process: subprocess.Popen) -> None:
        self._late = True
        _kill(process)

    def _environment(self) -> dict[str, str]:
        # On a GPU the sides share the memory of one.
        ours = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        if self._task["framework"] != "danet-jax":
            # JAX only describes the network there.
            ours["JAX_PLATFORMS"] = "cpu"
            # PyTorch may find a GPU that this JAX has nothing for.
            gpu = "" if self._task["platform"] == "cpu" else gpu
        return os.environ | ours | {"CUDA_VISIBLE_DEVICES": gpu}

    def _last_words(self) -> str:
        status = self._process.wait()
        if self._late:
            return "stopped, as the time was over"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return f"ended with status {status}: {said[-300:]}"


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def serve(build: Callable[[dict[str, Any], str], Program], peak: Callable[[], int]) -> None:
    """Answers requests of standard input until it ends.

    {"case": …, "variant": …} prepares a program, {"run": VARIANT} runs it for a while, and
    {"peak": true} gives memory. Each variant has one program at a time.

    Args:
      build: returns the program of a case and a variant.
      peak: returns the bytes that were held at most.
    """
    programs: dict[str, Program] = {}
    numbers: dict[str, int] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if "case" in request:
                variant = request["variant"]
                # The last one's arrays make place for the next one's.
                programs.pop(variant, None)
                began = time.perf_counter()
                program = programs[variant] = build(request["case"], variant)
                value = program.call()
                answer = {"first": time.perf_counter() - began, "value": value}
                answer["temporaries"] = program.temporaries
                numbers[variant] = _number(program)
            elif "run" in request:
                answer = {"seconds": _seconds(programs[request["run"]], numbers[request["run"]])}
            else:
                answer = {"peak": peak()}
        except Exception as error:  # to be shown in the table, beside what the others measured
            answer = {"failed": f"{type(error).__name__}: {str(error).strip()[:300]}"}
        print(json.dumps(answer), flush=True)


def _number(program: Program) -> int:
    """How often it is to be called in a repetition."""
    if program.seconds:
        return 1
    began = time.perf_counter()
    program.call()
    return max(round(SECONDS / max(time.perf_counter() - began, 1e-6)), 1)


def _seconds(program: Program, number: int) -> float:
    if program.seconds:
        return program.seconds()
    began = time.perf_counter()
    for _ in range(number):
        program.call()
    return (time.perf_counter() - began) / number


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
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        physical = min(physical, hard)
    with contextlib.suppress(ValueError, OSError):  # where there is no such limit
        resource.setrlimit(resource.RLIMIT_AS, (physical, hard))
