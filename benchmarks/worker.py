"""The process of a participant, as the benchmark sees it that asks it to measure."""

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent


class WorkerError(Exception):
    """A worker could not do what it was asked; the text says why."""


class Worker:
    """A process that measures; it starts with the first request, so that it disturbs nobody before.

    Args:
      task: what `benchmarks.worker_process` takes.
      until: when it is killed whatever it does, in seconds of `time.monotonic`; None for never.
    """

    def __init__(self, task: dict[str, Any], *, until: float | None = None):
        self._task, self._until = task, until
        self._is_overdue = False

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request and returns the answer; raises a WorkerError where there is none."""
        process = self._process
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(json.dumps(request) + "\n")
        except BrokenPipeError:
            raise WorkerError(self._reason()) from None
        for line in process.stdout:
            if line.startswith("{"):
                answer = json.loads(line)
                if "failed" in answer:
                    raise WorkerError(answer["failed"])
                return answer
        raise WorkerError(self._reason())

    def close(self) -> None:
        """Ends the process."""
        self._resources.close()

    @functools.cached_property
    def _resources(self) -> contextlib.ExitStack:
        return contextlib.ExitStack()

    @functools.cached_property
    def _errors(self) -> IO[bytes]:
        return self._resources.enter_context(tempfile.TemporaryFile())

    @functools.cached_property
    def _process(self) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker_process", json.dumps(self._task)],
            cwd=ROOT,
            env=self._environment(),
            # The processes that it starts are in its group, so that all of them can be ended.
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )
        self._resources.callback(process.communicate)
        self._resources.callback(_kill, process)
        if self._until is not None:
            remaining = max(self._until - time.monotonic(), 0)
            timer = threading.Timer(remaining, self._end_overdue, [process])
            timer.daemon = True
            timer.start()
            self._resources.callback(timer.cancel)
        return process

    def _end_overdue(self, process: subprocess.Popen) -> None:
        self._is_overdue = True
        _kill(process)

    def _environment(self) -> dict[str, str]:
        # On a GPU all workers share one device's memory, so none may reserve it.
        changed = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        if self._task["framework"] != "danet-jax":
            # JAX only describes the network there.
            changed["JAX_PLATFORMS"] = "cpu"
            # PyTorch may find a GPU that this JAX has no plugin for.
            gpu = "" if self._task["platform"] == "cpu" else gpu
        return os.environ | changed | {"CUDA_VISIBLE_DEVICES": gpu}

    def _reason(self) -> str:
        """Why the process has ended: its status and the last line that it wrote."""
        status = self._process.wait()
        if self._is_overdue:
            return "stopped, as the time was over"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
        return f"ended with status {status}: {last[-300:]}"


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
