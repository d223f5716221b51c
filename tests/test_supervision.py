"""The process that watches a command which is one of several."""

import os
import signal
import subprocess
import sys
import time

import pytest

from danet_jax.runtime.supervision import LOST, lost_message
from tests.launcher import ROOT

HEAD = """
import os, signal, sys, time
from danet_jax.runtime import supervision
supervision.supervise()
supervision.tell_hosts(["alpha", "beta"], ours=0)
"""
WORDS = (
    "E1128 12:00:00.1 7 coordination_service_agent.cc:1] Polled an error: UNAVAILABLE: task\\n"
    "F1128 12:00:00.2 7 client.h:77] Terminating process because the JAX distributed service "
    "detected fatal errors: /job:jax_worker/replica:0/task:1 stopped sending heartbeats\\n"
    "*** Check failure stack trace: ***\\n    @ 0x7f0 absl::something\\n"
)


def begin(code):
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(code):
    with begin(code) as process:
        stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("status", [0, 1, 2, 143])
def test_what_a_command_writes_and_its_status_are_passed_on(status):
    code = f"""
os.write(2, b"of C++\\n")
print("result")
print("line", file=sys.stderr)
sys.exit({status})
"""
    found, stdout, stderr = end(code)
    assert (found, stdout) == (status, "result\n")
    assert sorted(stderr.splitlines()) == ["line", "of C++"]


def test_pages_of_a_lost_process_become_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    status, _, stderr = end(f'os.write(2, b"{WORDS}"); os.abort()')
    assert status == LOST
    (line,) = stderr.splitlines()
    assert line.startswith("error: process 1 on beta was lost: it failed, was killed or stopped")
    (file,) = tmp_path.iterdir()
    assert "stack trace" in file.read_text()
    assert str(file) in line


def test_another_abort_is_shown_as_it_is():
    words = "F1128 12:00:00.2 7 compiler.cc:1] Check failed: shape\\n*** stack\\n"
    status, _, stderr = end(f'os.write(2, b"{words}"); os.abort()')
    assert status == 128 + signal.SIGABRT
    assert stderr == words.replace("\\n", "\n")


def test_a_kill_of_the_command_is_said():
    status, _, stderr = end("os.kill(os.getpid(), signal.SIGKILL)")
    assert status == 128 + signal.SIGKILL
    assert "error: the process was killed by SIGKILL, as the system does where memory" in stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_are_passed_on(number):
    code = f"""
signal.signal({int(number)}, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(60)
"""
    with begin(code) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 7


def test_the_command_ends_with_the_process_that_watches_it():
    with begin("print(os.getpid(), flush=True); time.sleep(60)") as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        until = time.monotonic() + 20
        while time.monotonic() < until and is_running(child):
            time.sleep(0.1)
    assert not is_running(child)


def is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


def test_lost_processes_are_named():
    hosts = [f"host-{index}" for index in range(20)]
    text = "".join(f"/job:jax_worker/replica:0/task:{index}\n" for index in (3, 5))
    assert lost_message(text, hosts=hosts).startswith(
        "processes 3 on host-3, 5 on host-5 were lost"
    )
    # A message names the one that it is written by, too.
    assert lost_message(text, hosts=hosts, ours=3).startswith("process 5 on host-5 was lost")
    served = "UNAVAILABLE: Failed to send RPC to coordination service. Either the leader task was"
    assert lost_message(served, hosts=hosts, ours=1).startswith("process 0 on host-0 was lost")
    assert lost_message(served, hosts=hosts, ours=0).startswith("another process of this job was")
    gloo = "Gloo all-reduce failed: Read error [10.0.0.2]: Connection closed by peer [10.0.0.2]:99"
    assert "another process of this job (at 10.0.0.2) was lost" in lost_message(gloo)
