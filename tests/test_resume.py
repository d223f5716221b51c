"""A run that was stopped, by whatever, ends as the one that was not: bit for bit."""

import functools
import json
import os
import re
import shutil
import signal
import time
from concurrent import futures

import jax
import numpy as np
import pytest

from danet_jax.runs import folder as run_folder
from danet_jax.runs.checkpoints import Checkpointer
from danet_jax.runtime import parallel
from danet_jax.training.setup import set_up
from tests.runs import CHECKPOINT_EVERY, STEPS, finish, stopped, succeed, wait_for
from tests.training.tiny import restore_state

pytestmark = pytest.mark.end_to_end

# How often a run is killed; `DANET_TEST_KILLS=5 pytest tests/test_resume.py` for more.
KILLS = int(os.environ.get("DANET_TEST_KILLS", "2"))
SEED = int(os.environ.get("DANET_TEST_SEED", "0"))


def read_final(workdir):
    """All arrays and the record of a finished run's last checkpoint; its best step and score."""
    config = run_folder.read_config(workdir)
    steps = config.train.steps
    abstract = set_up(config, parallel.create_mesh(), steps).abstract_state()
    checkpointer = Checkpointer(workdir / "checkpoints")
    state, record = restore_state(checkpointer, abstract, step=steps)
    assert state.step == steps
    arrays = (state.params, state.batch_stats, state.opt_state, state.ema)
    return jax.device_get(arrays), record, checkpointer.best()


def read_metrics(workdir):
    """The records of a run, without what the clock decides."""
    clock = ("images_per_second", "input_wait")
    records = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in r.items() if k not in clock} for r in records]


def assert_same_run(workdir, reference):
    arrays, record, best = read_final(workdir)
    expected, expected_record, expected_best = read_final(reference)
    assert jax.tree.structure(arrays) == jax.tree.structure(expected)
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(arrays), jax.tree.leaves(expected), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes(), jax.tree_util.keystr(path)
    assert record.stream == expected_record.stream
    assert best == expected_best
    assert read_metrics(workdir) == read_metrics(reference)


def last_step(workdir):
    """Step of the newest record; a line may be half written."""
    path = workdir / "metrics.jsonl"
    steps = re.findall(r'^{"step": (\d+), .*}$', path.read_text(), re.M) if path.exists() else []
    return int(steps[-1]) if steps else 0


def identity(path):
    return path.stat().st_ino if path.exists() else None


def is_writing_checkpoint(workdir):
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(not path.name.isdigit() for path in folder.iterdir())


def train_and_kill(workplace, kills, workdir, *overrides):
    """Starts `train` with a SIGKILL at a random moment, so many times, and then to the end."""
    rng = np.random.default_rng(SEED)
    targets = sorted(rng.choice(np.arange(1, STEPS - 2), kills, replace=False).tolist())
    arguments = ("train", f"--workdir={workdir}", *workplace.config(*overrides))
    for number, target in enumerate(targets):
        # `train` begins by replacing this file.
        former = identity(workdir / "metrics.jsonl")
        process = workplace.fork(*arguments)

        def is_reached(former=former, target=target):
            return identity(workdir / "metrics.jsonl") != former and last_step(workdir) >= target

        assert wait_for(is_reached, process)
        if number % 2:
            wait_for(lambda: is_writing_checkpoint(workdir), process)
        else:
            time.sleep(rng.uniform(0, 0.3))
        process.kill()
        assert finish(process).status == -signal.SIGKILL
    return succeed(workplace.run(*arguments))


@pytest.fixture(scope="module")
def runs(workplace, finished, tmp_path_factory):
    """Name → future of a workdir; side by side, as most of a short run is one core's work."""
    folder = tmp_path_factory.mktemp("runs")
    # Checkpoints between two records, which then are of steps of both runs.
    options = (
        "--config.train.ema_decay=0.9",
        "--config.train.accumulation_steps=2",
        f"--config.train.log_every={CHECKPOINT_EVERY - 1}",
    )
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:

        def submit(function, name, *overrides):
            return pool.submit(lambda: function(folder / name, *overrides) and folder / name)

        kill, kill_once = (
            functools.partial(train_and_kill, workplace, kills) for kills in (KILLS, 1)
        )
        through = submit(workplace.train, "options_through", *options)

        def kill_after(*arguments):
            # Not at once, when each of the two would compile the same.
            through.result()
            return kill_once(*arguments)

        yield {
            "options_through": through,
            "killed": submit(kill, "killed"),
            "options_killed": submit(kill_after, "options_killed", *options),
        }


def test_a_killed_run_ends_as_one_that_ran_through(finished, runs):
    assert_same_run(runs["killed"].result(), finished)


def test_also_with_average_and_accumulation(runs):
    through, killed = runs["options_through"].result(), runs["options_killed"].result()
    assert_same_run(killed, through)
    (*_, average), *_ = read_final(killed)
    assert average is not None


@pytest.fixture(scope="module")
def interrupted(workplace, tmp_path_factory):
    """Two runs stopped by SIGTERM and, as a terminal does it, by SIGINT to all their processes."""
    folder = tmp_path_factory.mktemp("interrupted")
    workers = {signal.SIGTERM: 0, signal.SIGINT: 2}

    def start_and_hold(number):
        workdir = folder / number.name
        process = workplace.start(
            "train",
            f"--workdir={workdir}",
            *workplace.config(f"--config.data.num_workers={workers[number]}"),
            start_new_session=True,
        )
        assert wait_for(lambda: last_step(workdir) >= 4, process)
        os.killpg(process.pid, signal.SIGSTOP)
        return process

    with futures.ThreadPoolExecutor() as pool:
        processes = dict(zip(workers, pool.map(start_and_hold, workers), strict=True))
    second = workplace.run("train", f"--workdir={folder / 'SIGTERM'}")
    processes[signal.SIGTERM].send_signal(signal.SIGTERM)
    os.killpg(processes[signal.SIGINT].pid, signal.SIGINT)
    for process in processes.values():
        os.killpg(process.pid, signal.SIGCONT)
    return folder, {n.name: finish(process) for n, process in processes.items()}, second


def test_two_trainings_in_one_workdir_are_refused(interrupted):
    folder, _, second = interrupted
    assert second.status == 2
    message = f"error: Another process is training in {folder / 'SIGTERM'}."
    assert second.stderr.splitlines()[-1] == message


def test_sigterm_and_ctrl_c_save_and_the_run_goes_on(workplace, finished, interrupted):
    folder, outcomes, _ = interrupted
    steps = {}
    for name, outcome in outcomes.items():
        stderr = " ".join(stopped(outcome, signal.Signals[name]).stderr.split())
        said = re.search(rf"{name}: saved step (\d+) of {STEPS} in {folder / name}", stderr)
        steps[name] = int(said.group(1))
        assert 4 <= steps[name] < STEPS
        assert (folder / name / "checkpoints" / said.group(1)).is_dir()
        assert last_step(folder / name) == steps[name]
    # Other workers and threads than before, to the same end.
    overrides = {"SIGTERM": "--config.data.num_workers=2", "SIGINT": "--config.data.num_threads=1"}
    processes = {
        name: workplace.fork("train", f"--workdir={folder / name}", *others)
        for name, others in (
            ("SIGTERM", [overrides["SIGTERM"]]),
            ("SIGINT", workplace.config(overrides["SIGINT"])),
        )
    }
    for name, process in processes.items():
        stderr = " ".join(succeed(finish(process)).stderr.split())
        assert f"goes on from step {steps[name]} of {STEPS}" in stderr
        assert_same_run(folder / name, finished)


def test_an_evaluation_that_was_interrupted_is_made_up_for(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    # As left by a SIGTERM in the last evaluation: everything is saved except the score.
    shutil.rmtree(run / "checkpoints" / str(STEPS) / "metrics")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    succeed(workplace.run("train", f"--workdir={run}"))
    assert_same_run(run, finished)
    assert (run / "checkpoints" / str(STEPS) / "metrics").is_dir()


def test_a_signal_before_the_first_step_leaves_nothing_behind(workplace, tmp_path):
    workdir = tmp_path / "run"
    process = workplace.start("train", f"--workdir={workdir}", *workplace.config())
    assert wait_for((workdir / "checkpoints").is_dir, process)
    process.terminate()
    stderr = " ".join(stopped(finish(process), signal.SIGTERM).stderr.split())
    assert f"SIGTERM: no step was done yet in {workdir}." in stderr
    assert not any((workdir / "checkpoints").iterdir())
    assert last_step(workdir) == 0
