"""Trains on several hosts and loses them: killed, frozen, cut off. See `make test-hosts`.

Hosts are network namespaces, so this needs root; it takes a quarter of an hour.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from danet_jax.runtime.launchers import PROCESS_VARIABLES
from danet_jax.runtime.supervision import LONGEST_SILENCE, LOST
from tests.hosts.network import Host, network, why_impossible
from tests.launcher import ROOT
from tests.test_resume import assert_same_run

# Seconds in which the others have to end: twice the silence, and some for their start.
LONGEST_END = 2 * LONGEST_SILENCE + 20
LONGEST_RUN = 600
SMALL = (
    "--config=synthetic_scenes",
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.data.crop_size=(32,32)",
    "--config.train.batch_size=4",
    "--config.train.steps=400",
    "--config.train.eval_every=200",
    "--config.train.checkpoint_every=5",
)
PAGES = re.compile(r"Traceback|^[EF]\d{4} |terminate called|\*\*\* ", re.MULTILINE)


class Job:
    """One training on all hosts."""

    def __init__(self, hosts: Sequence[Host], folder: Path, workdir: Path):
        self.outputs = [folder / f"{host.name}.txt" for host in hosts]
        command = [sys.executable, str(ROOT / "main.py"), "train", f"--workdir={workdir}"]
        command += [*SMALL, f"--config.data.data_dir={folder / 'data'}"]
        self.processes = []
        for host, output in zip(hosts, self.outputs, strict=True):
            values = (f"{hosts[0].address}:2222", str(len(hosts)), str(host.index))
            variables = dict(zip(PROCESS_VARIABLES, values, strict=True))
            variables |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(folder / "cache")}
            self.processes.append(host.start(command, environment=variables, output=output))

    def wait_until_joined(self) -> None:
        """Returns when the processes have found each other and compared what they train."""
        until = time.monotonic() + LONGEST_RUN
        while "are the same on all" not in self.outputs[0].read_text():
            assert time.monotonic() < until, self.said()
            assert all(process.poll() is None for process in self.processes), self.said()
            time.sleep(0.05)

    def end(self, *, seconds: float) -> list[int | None]:
        """Waits for all to end, so long at the most; returns their statuses."""
        until = time.monotonic() + seconds
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, until - time.monotonic()))
        return [process.poll() for process in self.processes]

    def said(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in self.outputs)

    def check_others(self, victim: int) -> str:
        """Asserts that all but one ended with a line on the lost one; returns that of one."""
        lines = []
        for index, (process, output) in enumerate(zip(self.processes, self.outputs, strict=True)):
            if index == victim:
                continue
            text = output.read_text()
            assert process.returncode == LOST, self.said()
            found = re.findall(r"^error: .*", text, re.MULTILINE)
            assert len(found) == 1, self.said()
            assert re.search(r"(was|were) lost: it failed", found[0]), self.said()
            assert not PAGES.search(text), self.said()
            lines += found
        return lines[0]


@contextlib.contextmanager
def running(hosts: Sequence[Host], folder: Path, workdir: Path) -> Iterator[Job]:
    """Starts a job, and ends what is left of it."""
    job = Job(hosts, folder, workdir)
    try:
        yield job
    finally:
        for host in hosts:
            for pid in host.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        for process in job.processes:
            process.wait()


def finish(hosts: Sequence[Host], folder: Path, workdir: Path) -> None:
    """Trains to the end, without a loss."""
    with running(hosts, folder, workdir) as job:
        statuses = job.end(seconds=LONGEST_RUN)
        assert statuses == [0] * len(hosts), job.said()


def lose(hosts: Sequence[Host], folder: Path, workdir: Path, *, how: str, victim: int) -> bool:
    """Loses one host; returns whether it was lost before the training was done."""
    with running(hosts, folder, workdir) as job:
        job.wait_until_joined()
        time.sleep(random.uniform(0, 10))
        if any(process.poll() is not None for process in job.processes):
            assert job.end(seconds=LONGEST_RUN) == [0] * len(hosts), job.said()
            return False
        host, began = hosts[victim], time.monotonic()
        if how == "killed":
            job.processes[victim].kill()
        elif how == "stopped":
            os.kill(job.processes[victim].pid, signal.SIGSTOP)
        elif how == "frozen":
            for pid in host.processes():
                os.kill(pid, signal.SIGSTOP)
        else:
            host.connect(up=False)
        others = [process for index, process in enumerate(job.processes) if index != victim]
        for process in others:
            process.wait(LONGEST_END)
        seconds = time.monotonic() - began
        line = job.check_others(victim)
        if how == "cut off":
            # It finds out, too.
            job.processes[victim].wait(LONGEST_END)
            host.connect(up=True)
    print(f"{len(hosts)} hosts, {host.name} {how}: the others ended in {seconds:.1f} s", flush=True)
    print(f"    {line}", flush=True)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hosts", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 4], help="how many there are")
    parser.add_argument("--kills", type=int, default=20, help="of one host at a random moment")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if reason := why_impossible():
        raise SystemExit(f"not tested: {reason}.")
    # A signal removes the hosts, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    random.seed(args.seed)
    with tempfile.TemporaryDirectory(prefix="danet-hosts-") as name:
        folder = Path(name)
        subprocess.run(
            [
                *(sys.executable, ROOT / "main.py", "prepare", SMALL[0]),
                f"--config.data.data_dir={folder / 'data'}",
            ],
            check=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for count in args.hosts:
            with network(count) as hosts:
                try_hosts(hosts, folder, kills=args.kills)


def try_hosts(hosts: Sequence[Host], folder: Path, *, kills: int) -> None:
    """Loses hosts in all ways; each training that lost some ends as one that lost none."""
    through = folder / f"through-{len(hosts)}"
    finish(hosts, folder, through)
    lost = runs = 0
    while lost < kills:
        workdir, runs = folder / f"killed-{runs}-{len(hosts)}", runs + 1
        while lost < kills and lose(
            hosts, folder, workdir, how="killed", victim=random.randrange(len(hosts))
        ):
            lost += 1
        finish(hosts, folder, workdir)
        assert_same_run(workdir, through)
    print(
        f"{len(hosts)} hosts: after {lost} kills in {counted(runs)} each ended as one that "
        "lost none, bit for bit",
        flush=True,
    )
    for how in ("stopped", "frozen", "cut off"):
        for victim in (0, len(hosts) - 1):
            workdir = folder / f"{how}-{victim}-{len(hosts)}"
            assert lose(hosts, folder, workdir, how=how, victim=victim)
            finish(hosts, folder, workdir)
            assert_same_run(workdir, through)
    print(f"{len(hosts)} hosts: so did 6 that were stopped, frozen and cut off", flush=True)


def counted(runs: int) -> str:
    return "1 training" if runs == 1 else f"{runs} trainings"


if __name__ == "__main__":
    main()
