"""Processes of `main.py` without the seconds that each takes to import JAX, Orbax and TFDS.

A server, started once, imports what the commands import and then forks for every command. What
comes out of the fork is a process of its own, with its own standard streams and status, that runs
`main.py` from its first line and ends as an interpreter ends. JAX's backend, which no fork
survives, is not initialised before.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent


class Forked:
    """A command that runs; as much of `subprocess.Popen` as the tests use."""

    def __init__(self, answers: socket.socket, stdout: IO[bytes], stderr: IO[bytes]):
        self.pid = int(answers.recv(20))
        self.returncode: int | None = None
        # Bytes of memory at the most; what it shares with the process that it was forked from
        # counts, too.
        self.peak: int | None = None
        self._answers, self._texts = answers, (stdout, stderr)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._answers, *self._texts):
            file.close()

    def poll(self) -> int | None:
        """The status, None as long as it runs."""
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self._wait(0)
        return self.returncode

    def communicate(self, *, timeout: float) -> tuple[str, str]:
        """Standard output and standard error, at its end."""
        self._wait(timeout)
        for file in self._texts:
            file.seek(0)
        stdout, stderr = (file.read().decode() for file in self._texts)
        return stdout, stderr

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _wait(self, timeout: float) -> None:
        if self.returncode is None:
            self._answers.settimeout(timeout)
            status, peak = self._answers.recv(40).split()
            self.returncode, self.peak = int(status), int(peak)


class Launcher:
    """Starts commands of `main.py` with one environment; from several threads, too."""

    def __init__(self, environment: Mapping[str, str]):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._requests = ours

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str]) -> Forked:
        """Starts `main.py ARGUMENTS`; JAX has read its own settings before this environment."""
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stdout, stderr = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        with theirs:
            descriptors = [theirs.fileno(), stdout.fileno(), stderr.fileno()]
            request = json.dumps([arguments, dict(environment)]).encode()
            socket.send_fds(self._requests, [request], descriptors)
        return Forked(answers, stdout, stderr)

    def close(self) -> None:
        self._requests.close()
        self._server.wait()


def serve(requests: socket.socket) -> None:
    """Imports, then forks for each request until there can be no more."""
    package = importlib.import_module("danet_jax.commands")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    importlib.import_module("benchmarks.command")
    # What commands import late, as some of them do without.
    for name in ("danet_jax.input_pipeline.pipeline", "scipy.linalg"):
        importlib.import_module(name)
    # What is there is not garbage: to look through it would copy the memory of all of it in every
    # fork, which takes longer than most commands.
    gc.collect()
    gc.freeze()
    # The forks between this process and the commands' are nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(*json.loads(request), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _run(
    arguments: list[str], environment: dict[str, str], answer: int, stdout: int, stderr: int
) -> None:
    process = os.fork()
    if process:
        with socket.socket(fileno=answer) as answers:
            answers.send(str(process).encode())
            _, status, usage = os.wait4(process, 0)
            code, peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
            answers.send(f"{code} {peak}".encode())
        os._exit(0)
    os.close(answer)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.argv[1:] = arguments
    os.environ.update(environment)
    runpy.run_path("main.py", run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    serve(socket.socket(fileno=int(sys.argv[1])))
