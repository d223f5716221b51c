"""Processes of `main.py` without the seconds that each takes to import JAX, Orbax and TFDS.

A server, started once, imports what the commands import and then forks for every command. What
comes out of the fork is a process of its own, with its own standard streams and status, that runs
`main.py` from its first line and ends as an interpreter ends. JAX's backend, which no fork
survives, is not initialised before.
"""

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

ROOT = Path(__file__).resolve().parent.parent


class Launcher:
    """Runs commands of `main.py` with one environment; of several threads, too."""

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

    def run(self, arguments: Sequence[str], *, seconds: float) -> tuple[int, str, str]:
        """Returns status, standard output and standard error of `main.py ARGUMENTS`."""
        answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with answers, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            with theirs:
                descriptors = [theirs.fileno(), stdout.fileno(), stderr.fileno()]
                request = json.dumps(arguments).encode()
                socket.send_fds(self._requests, [request], descriptors)
            answers.settimeout(seconds)
            process = int(answers.recv(20))
            try:
                status = int(answers.recv(20))
            except TimeoutError:
                os.kill(process, signal.SIGKILL)
                raise
            texts = []
            for file in (stdout, stderr):
                file.seek(0)
                texts.append(file.read().decode())
            return status, *texts

    def close(self) -> None:
        self._requests.close()
        self._server.wait()


def serve(requests: socket.socket) -> None:
    """Imports, then forks for each request until there can be no more."""
    package = importlib.import_module("danet_jax.commands")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    # The forks between this process and the commands' are nobody's to wait for.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run(json.loads(request), *descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _run(arguments: list[str], answer: int, stdout: int, stderr: int) -> None:
    process = os.fork()
    if process:
        with socket.socket(fileno=answer) as answers:
            answers.send(str(process).encode())
            status = os.waitpid(process, 0)[1]
            answers.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    os.close(answer)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    sys.argv[1:] = arguments
    runpy.run_path("main.py", run_name="__main__")


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    serve(socket.socket(fileno=int(sys.argv[1])))
