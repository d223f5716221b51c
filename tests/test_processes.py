"""Two processes of one run, as on two machines: they train, stop and go on together."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest

from danet_jax.runtime.launchers import PROCESS_VARIABLES
from danet_jax.runtime.supervision import LOST
from tests.compiler import xla_flags
from tests.launcher import ROOT
from tests.runs import STEPS, finish, stopped, succeed, wait_for
from tests.test_command_line import check_message
from tests.test_resume import assert_same_run, last_step, read_metrics

pytestmark = pytest.mark.end_to_end

COUNT = 2


def start(workplace, *arguments, environment=()):
    """Starts a command in two processes that find each other."""
    address = f"127.0.0.1:{free_port()}"
    return [
        workplace.fork(
            *arguments,
            "--config.mesh.distributed=True",
            environment=dict(environment)
            | dict(zip(PROCESS_VARIABLES, (address, str(COUNT), str(index)), strict=True)),
        )
        for index in range(COUNT)
    ]


def started(workplace, workdir, *overrides):
    """Starts a training whose processes get overrides of their own."""
    address = f"127.0.0.1:{free_port()}"
    return [
        workplace.fork(
            "train",
            f"--workdir={workdir}",
            *workplace.config(*own),
            "--config.mesh.distributed=True",
            environment=dict(
                zip(PROCESS_VARIABLES, (address, str(COUNT), str(index)), strict=True)
            ),
        )
        for index, own in enumerate(overrides)
    ]


def free_port():
    """A port below those that the system gives to whoever asks for any."""
    first = 20_000 + os.getpid() % 10_000
    for port in range(first, first + 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")


def finish_all(processes):
    with futures.ThreadPoolExecutor() as pool:
        return list(pool.map(finish, processes))


def train(workplace, workdir):
    processes = start(workplace, "train", f"--workdir={workdir}", *workplace.config())
    first, second = map(succeed, finish_all(processes))
    return first, second


@pytest.fixture(scope="module")
def through(workplace, tmp_path_factory):
    """The workdir of a run that nothing interrupted, and what the first process said."""
    workdir = tmp_path_factory.mktemp("processes") / "through"
    first, second = train(workplace, workdir)
    assert "mean IoU" not in second.stdout + second.stderr
    name = socket.gethostname()
    for index in range(COUNT):
        assert re.search(rf"^{index} +{re.escape(name)} +1 device \(cpu\)$", first.stderr, re.M)
    assert "1 example on each device; the config, the versions and the data" in first.stderr
    assert name not in second.stderr
    return workdir, first


def test_two_processes_train_and_evaluate_as_one(finished, through):
    workdir, said = through
    ours, alone = read_metrics(workdir), read_metrics(finished)
    assert [record["step"] for record in ours] == [record["step"] for record in alone]
    # The same batches and weights; sums in another order drift apart from step to step.
    losses, expected = ([record["loss"] for record in run[:4]] for run in (ours, alone))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    record = json.loads((workdir / "report" / "evaluations.json").read_text())["evaluations"][-1]
    assert f"mean IoU {record['metrics']['mean_iou']:.4f} on 4 images" in said.stdout


@pytest.mark.parametrize(("devices", "space"), [(2, 2), (1, 2), (2, 4)])
def test_rows_of_images_over_devices(workplace, finished, tmp_path, devices, space):
    """On those of each process, or of both, which then load the same images."""
    processes = start(
        workplace,
        "train",
        f"--workdir={tmp_path / 'run'}",
        *workplace.config(f"--config.mesh.space={space}", "--config.train.steps=2"),
        environment={"XLA_FLAGS": xla_flags(devices)},
    )
    list(map(succeed, finish_all(processes)))
    # The rate of the first step does not depend on how many follow.
    losses, expected = (
        [record["loss"] for record in read_metrics(workdir)[:2]]
        for workdir in (tmp_path / "run", finished)
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_a_wide_network_is_evaluated_by_each_process_on_its_own_devices(workplace, tmp_path):
    """On CPU its kernels are transformed first, by programs of one process."""
    wide = workplace.config("--config.model.width=64", "--config.train.steps=1")
    processes = start(workplace, "train", f"--workdir={tmp_path / 'run'}", *wide)
    first, _ = map(succeed, finish_all(processes))
    assert "on 4 images" in first.stdout


def test_ctrl_c_in_one_stops_both_and_they_go_on_to_the_same_end(workplace, through, tmp_path):
    workdir = tmp_path / "run"
    # Slowly, since processes hear of each other's signals once in a second.
    slowly = workplace.config("--config.train.checkpoint_every=1")
    processes = start(workplace, "train", f"--workdir={workdir}", *slowly)
    assert wait_for(lambda: last_step(workdir) >= 2, processes[0])
    os.kill(processes[1].pid, signal.SIGINT)
    first, second = finish_all(processes)
    # Each by the signal that it got itself, or else by that which told it to stop.
    stopped(first, signal.SIGTERM)
    stopped(second, signal.SIGINT)
    assert "SIGINT: saving after this step or evaluation" in second.stderr
    step = last_step(workdir)
    assert 2 <= step < STEPS
    assert f"SIGTERM: saved step {step} of {STEPS} in {workdir}" in first.stderr
    first, _ = train(workplace, workdir)
    assert f"goes on from step {step} of {STEPS}" in first.stderr
    assert_same_run(workdir, through[0])


@pytest.mark.parametrize("gone", [0, 1])
def test_one_that_is_killed_ends_the_other_and_they_go_on_to_the_same_end(
    workplace, through, tmp_path, gone
):
    workdir = tmp_path / "run"
    processes = start(workplace, "train", f"--workdir={workdir}", *workplace.config())
    assert wait_for(lambda: last_step(workdir) >= 6, processes[0])
    os.kill(processes[gone].pid, signal.SIGKILL)
    outcomes = finish_all(processes)
    assert outcomes[gone].status == -signal.SIGKILL
    other = outcomes[1 - gone]
    assert other.status == LOST, other.stderr
    (line,) = (line for line in other.stderr.splitlines() if line.startswith("error: "))
    assert re.search(r"(another process of this job.*|process \d on .*) was lost", line)
    assert "Start all processes again with the same command; a training goes on from" in line
    *_, last = (text for text in other.stderr.splitlines() if "What JAX said is in" not in text)
    assert last == line or "What JAX said is in" in line
    assert not re.search(r"Traceback|^[EF]\d{4} |terminate called|\*\*\*", other.stderr, re.M)
    train(workplace, workdir)
    assert_same_run(workdir, through[0])


def test_a_checkpoint_gets_its_score_from_both(workplace, through, tmp_path):
    run = shutil.copytree(through[0], tmp_path / "run")
    # As left by a SIGTERM at the last step.
    shutil.rmtree(run / "checkpoints" / str(STEPS) / "metrics")
    train(workplace, run)
    assert_same_run(run, through[0])
    assert (run / "checkpoints" / str(STEPS) / "metrics").is_dir()


def test_a_process_that_looks_late_removes_the_same_checkpoints(workplace, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.late_process", tmp_path / "checkpoints"],
            cwd=ROOT,
            env=workplace.environment
            | dict(zip(PROCESS_VARIABLES, (address, str(COUNT), str(index)), strict=True)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(COUNT)
    ]
    for outcome in map(succeed, finish_all(processes)):
        assert "steps [[2, 3], [2, 3]]" in outcome.stdout
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["2", "3"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("--config.seed=7", "Process 1 on {host} has config.seed 7, and process 0 on {host} 0:"),
        ("--config.data.train_split=val", 'has config.data.train_split "val", and process 0'),
    ],
)
def test_processes_with_another_config_are_refused(workplace, tmp_path, override, says):
    outcomes = finish_all(started(workplace, tmp_path / "run", [], [override]))
    first, second = map(check_message, outcomes)
    assert first == second
    assert says.format(host=socket.gethostname()) in first
    assert "start all processes with the same config, data and versions" in first
    assert not (tmp_path / "run").exists()


def test_processes_with_other_data_are_refused(workplace, tmp_path):
    source = shutil.copytree(workplace.source, tmp_path / "CamVid")
    labels = sorted((source / "trainannot").glob("*.png"))
    shutil.copy(labels[0], labels[1])
    data = tmp_path / "data"
    place = f"--config.data.data_dir={data}"
    succeed(workplace.run("prepare", *workplace.config(place), f"--source={source}"))
    outcomes = finish_all(started(workplace, tmp_path / "run", [], [place]))
    first, second = map(check_message, outcomes)
    assert first == second
    assert "Process 1" in first
    assert "has training examples" in first
    assert not (tmp_path / "run").exists()


def test_what_one_refuses_both_refuse(workplace, through):
    change = ("--config.optimizer.momentum=0.5", "--config.train.checkpoint_every=5")
    processes = start(workplace, "train", f"--workdir={through[0]}", *workplace.config(*change))
    first, second = map(check_message, finish_all(processes))
    assert first == second
    assert "config.optimizer.momentum: 0.9 in it, 0.5 asked for" in first
