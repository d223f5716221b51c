"""Too little memory or too few threads are said as what they are, and never as damaged files."""

import errno
import os
import resource
import subprocess
import sys
import threading

import pytest

from danet_jax.base import exhaustion
from danet_jax.base.errors import unreadable
from danet_jax.commands import command_line
from danet_jax.evaluation import settings
from danet_jax.runs import orbax_failures
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


def limited_to(megabytes):
    """Runs a command with so much data, and returns what it said."""
    limit = megabytes << 20
    # Set in the new process, as JAX's threads in this one forbid a fork.
    program = (
        f"import resource, sys\nresource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))\n"
    )
    program += "from danet_jax.commands import command_line\n"
    program += "sys.exit(command_line.run(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", program, "predict", "--workdir=no", "--input=no", "--output=no"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_a_limit_of_data_is_no_limit_of_addresses():
    """Heaps and stacks count, and not what is reserved alone, which is several times as much."""
    cores = len(os.sched_getaffinity(0))
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    stack = 2 << 20 if stack == resource.RLIM_INFINITY else stack
    needed = 1024 + min(80 + 16 * cores, 512) * stack // 2**20
    low = limited_to(needed - 50)
    assert low.returncode == 2
    assert "not enough memory" in low.stderr
    assert "ulimit -d unlimited" in low.stderr
    assert "addresses" not in low.stderr
    enough = limited_to(needed + 50)
    assert "not enough memory" not in enough.stderr
    # The folder is not there, which is another matter.
    assert "no" in enough.stderr
    assert enough.returncode == 2


# What stands in /proc/self/cgroup, the files of /sys/fs/cgroup, and the one that counts.
GROUPS = {
    "version 2": ("0::/user/job", {"user/job/memory.max": 10**8}, "user/job/memory.max"),
    "above": (
        "0::/user/job",
        {"user/memory.max": 10**8, "user/job/memory.max": "max"},
        "user/memory.max",
    ),
    "the lowest": (
        "0::/user/job",
        {"user/memory.max": 10**8, "user/job/memory.max": 2 * 10**8},
        "user/memory.max",
    ),
    "a container, version 2": ("0::/", {"memory.max": 10**8}, "memory.max"),
    "a container, version 1": (
        "7:cpu:/docker/1f\n4:memory:/docker/1f\n",
        {"memory/memory.limit_in_bytes": 10**8},
        "memory/memory.limit_in_bytes",
    ),
    "version 1 beside version 2": (
        "4:hugetlb,memory:/job\n0::/",
        {"memory/job/memory.limit_in_bytes": 10**8},
        "memory/job/memory.limit_in_bytes",
    ),
    "a name with a colon": ("0::/a:b", {"a:b/memory.max": 10**8}, "a:b/memory.max"),
    "from outside": ("0::/../job", {"job/memory.max": 10**8}, "job/memory.max"),
    "another controller's": ("3:cpu:/job", {"memory/job/memory.limit_in_bytes": 10**8}, None),
    "unlimited, version 1": (
        "4:memory:/",
        {"memory/memory.limit_in_bytes": 9223372036854771712},
        None,
    ),
    "unlimited": ("0::/", {"memory.max": "max"}, None),
    "none": ("", {}, None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_limit_of_a_container_or_job(name, tmp_path):
    listed, files, expected = GROUPS[name]
    (tmp_path / "groups").write_text(listed)
    root = tmp_path / "root"
    root.mkdir()
    for file, number in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(f"{number}\n")
    # One that lies above all groups is nobody's.
    (tmp_path / "memory.max").write_text("5\n")
    found = exhaustion.memory_limit(tmp_path / "groups", root)
    assert found == (None if expected is None else (10**8, root / expected))


def test_too_small_a_job_is_named_and_limits_what_is_looked_at(monkeypatch):
    small = (300 << 20, "/sys/fs/cgroup/memory.max")
    monkeypatch.setattr(exhaustion, "memory_limit", lambda: small)
    said = exhaustion.check_limits()
    assert "may use 0.3 GiB (/sys/fs/cgroup/memory.max)" in said
    assert "raise that limit" in said
    monkeypatch.setattr(exhaustion, "memory_limit", lambda: (2 << 30, small[1]))
    assert exhaustion.check_limits() == ""
    monkeypatch.setattr(exhaustion, "memory_limit", lambda: small)
    assert settings.memory_bytes() == 300 << 20


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
    limits = {exhaustion.resource.RLIMIT_AS: (16 << 30, 16 << 30)}
    unlimited = (exhaustion.resource.RLIM_INFINITY,) * 2
    monkeypatch.setattr(
        exhaustion.resource, "getrlimit", lambda which: limits.get(which, unlimited)
    )
    monkeypatch.setattr(exhaustion.os, "cpu_count", lambda: 128)
    assert exhaustion.check_limits() == ""
    monkeypatch.setattr(exhaustion.os, "sched_getaffinity", lambda _: set(range(128)))
    assert "MALLOC_ARENA_MAX=2" in exhaustion.check_limits()
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert exhaustion.check_limits() == ""


def test_enough_threads_for_a_training_are_asked_for(monkeypatch):
    """On two cores, with 99 threads beside the first, a training was aborted halfway."""
    monkeypatch.setattr(exhaustion.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(exhaustion, "_count_threads", lambda number: min(number, 99))
    assert "of 112 that the libraries want, this process may start 99" in exhaustion.check_limits()


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
        orbax_failures.failures("it is damaged"),
    ):
        raise error
    assert "damaged" not in str(caught.value)


def test_other_errors_stay_what_they_are():
    assert exhaustion.exhausted(RuntimeError("shapes differ")) is None
    assert exhaustion.exhausted(FileNotFoundError(errno.ENOENT, "No such file")) is None
    assert command_line._status(KeyError("a"), command_line.parse(["train", "--workdir=a"])) is None
