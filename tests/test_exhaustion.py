"""Too little memory or too few threads are said as what they are, and never as damaged files."""

import errno
import subprocess
import sys
import threading

import pytest

from danet_base import exhaustion
from danet_jax.commands import command_line
from danet_jax.training import checkpoint
from input_pipeline.errors import unreadable
from tests.interop.conftest import command
from tests.launcher import ROOT
from tests.training.compilation import light_compilation

__all__ = ["command", "light_compilation"]


@pytest.mark.parametrize("kilobytes", [1_000_000, 1_536_000, 2_048_000])
def test_a_low_limit_of_addresses_is_named_before_the_work(kilobytes):
    command = [sys.executable, "main.py", "predict", "--workdir=no", "--input=no", "--output=no"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(kilobytes), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 2
    assert "not enough memory" in done.stderr
    assert "ulimit -v" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_few_threads_are_named_before_the_work(command, monkeypatch):
    start = threading.Thread.start
    started = []

    def limited(thread):
        if len(started) == 20:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    status, _, errors = command("predict", "--workdir=no", "--input=no", "--output=no")
    assert status == 2
    assert "this process may start 20" in errors
    assert "ulimit -u" in errors
    assert not any(thread.is_alive() for thread in started)


def test_a_limit_is_compared_with_what_this_process_may_use(monkeypatch):
    """A job on some cores of a large machine, below the limit that its scheduler sets."""
    sixteen = (16 << 30, 16 << 30)
    monkeypatch.setattr(exhaustion.resource, "getrlimit", lambda _: sixteen)
    monkeypatch.setattr(exhaustion.os, "cpu_count", lambda: 128)
    assert exhaustion.check_limits() == ""
    monkeypatch.setattr(exhaustion.os, "sched_getaffinity", lambda _: set(range(128)))
    assert "MALLOC_ARENA_MAX=2" in exhaustion.check_limits()
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert exhaustion.check_limits() == ""


def test_this_process_has_enough():
    assert exhaustion.check_limits() == ""


ERRORS = {
    "there is not enough memory": [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes."),
        RuntimeError("std::bad_alloc"),
    ],
    "no more threads can be started": [
        RuntimeError("can't start new thread"),
        OSError(errno.EAGAIN, "thread: Resource temporarily unavailable"),
    ],
}


@pytest.mark.parametrize(
    ("what", "error"), [(what, error) for what, errors in ERRORS.items() for error in errors]
)
def test_what_ran_out_is_said_without_advice_to_delete(what, error, command, monkeypatch):
    def fail(_):
        try:
            raise error
        except type(error) as problem:
            raise unreadable(
                "data set 'mine'", problem, "delete it and prepare it again"
            ) from problem

    monkeypatch.setattr("danet_jax.commands.predict.run", fail)
    status, _, errors = command("predict", "--workdir=no", "--input=no", "--output=no")
    assert status == 2
    assert what in errors
    assert "delete" not in errors
    assert "No file is damaged" in errors
    with (
        pytest.raises(ValueError, match=what[10:]) as caught,
        checkpoint._failures("it is damaged"),
    ):
        raise error
    assert "damaged" not in str(caught.value)


def test_other_errors_stay_what_they_are():
    assert exhaustion.exhausted(RuntimeError("shapes differ")) is None
    assert exhaustion.exhausted(FileNotFoundError(errno.ENOENT, "No such file")) is None
    assert command_line._status(KeyError("a"), command_line.parse(["train", "--workdir=a"])) is None
