"""The real command line in processes of its own, on a miniature CamVid: for tests of whole runs."""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from danet_jax.input_pipeline.builders.camvid import COLORS, VOID
from tests import compiler
from tests.launcher import ROOT, Forked, Launcher

SIZE = (64, 48)
IMAGES = {"train": 8, "val": 4}
STEPS, EVAL_EVERY, CHECKPOINT_EVERY = 24, 8, 4
CONFIG = (
    "--config=configs/camvid.py:runlocal",
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.data.crop_size=(32,32)",
    "--config.data.base_size=48",
    "--config.data.num_threads=2",
    "--config.train.batch_size=2",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=1",
    f"--config.train.eval_every={EVAL_EVERY}",
    f"--config.train.checkpoint_every={CHECKPOINT_EVERY}",
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a finished process left."""

    status: int
    stdout: str
    stderr: str


class Workplace:
    """The prepared data set, its source, and a home of their own for the processes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = threading.Lock()
        self._launcher: Launcher | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def source(self) -> Path:
        return self.folder / "CamVid"

    @property
    def said(self) -> Path:
        """What the run of `finished` wrote to standard error."""
        return self.folder / "finished.txt"

    def config(self, *overrides: str) -> list[str]:
        """Arguments that choose the tests' config, changed by further ones."""
        return [*CONFIG, f"--config.data.data_dir={self.data}", *overrides]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a person with a fresh account."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JAX_", "XLA_", "PYTEST_"))
        }
        return inherited | {
            "HOME": str(self.folder / "home"),
            # One cache of compiled programs for all the processes of the tests.
            "XDG_CACHE_HOME": str(self.folder / "home" / ".cache"),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": compiler.FAST,
            "XLA_FLAGS": compiler.xla_flags(),
            "COLUMNS": "200",
        }

    def start(self, *arguments: str | Path, environment=(), **options) -> subprocess.Popen:
        """Starts `python main.py ARGUMENTS`."""
        return subprocess.Popen(
            [sys.executable, "main.py", *map(str, arguments)],
            cwd=ROOT,
            env=self.environment | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def fork(self, *arguments: str | Path, environment=()) -> Forked:
        """Starts `main.py ARGUMENTS` in a process forked after the imports."""
        with self._lock:
            self._launcher = self._launcher or Launcher(self.environment)
        return self._launcher.start([str(a) for a in arguments], environment=dict(environment))

    def run(self, *arguments: str | Path) -> Outcome:
        """Runs `main.py ARGUMENTS` to its end, forked."""
        return finish(self.fork(*arguments))

    def train(self, workdir: Path, *overrides: str) -> Outcome:
        """Trains with the tests' config, and expects success."""
        return succeed(self.run("train", f"--workdir={workdir}", *self.config(*overrides)))

    def close(self) -> None:
        """Ends what forks the processes."""
        if self._launcher:
            self._launcher.close()


def finish(process: subprocess.Popen | Forked, *, seconds: float = 400) -> Outcome:
    """Waits for a process to end."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        finally:
            process.kill()
    return Outcome(process.returncode, stdout, stderr)


def succeed(outcome: Outcome) -> Outcome:
    """Asserts that a command did what it was asked."""
    assert outcome.status == 0, outcome.stderr
    assert "Traceback" not in outcome.stderr
    return outcome


def stopped(outcome: Outcome, number: int) -> Outcome:
    """Asserts that a command has the status of what a signal ended, without a traceback."""
    assert outcome.status == 128 + number, outcome.stderr
    assert "Traceback" not in outcome.stderr
    return outcome


def wait_for(condition: Callable[[], bool], process: subprocess.Popen | Forked, *, seconds=400):
    """Waits until the condition holds; False where the process ended before."""
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            return False
        if time.monotonic() > end:
            process.kill()
            raise TimeoutError("it did not come to it")
        time.sleep(0.005)
    return True


def digests(folder: Path) -> dict[str, str]:
    """Path → hash of every file, and "folder" for every folder, below a folder."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }


def write_camvid(folder: Path) -> Path:
    """A street of four classes and void in CamVid's original layout; places differ by image."""
    palette = np.array([*COLORS, (0, 0, 0)], np.uint8)
    for split, count in IMAGES.items():
        (folder / split).mkdir(parents=True)
        (folder / f"{split}annot").mkdir()
        lines = []
        for index in range(count):
            rng = np.random.default_rng([index, len(split)])
            label = Image.new("L", SIZE, 0)
            draw = ImageDraw.Draw(label)
            house, car = (int(x) for x in rng.integers(0, 45, 2))
            draw.rectangle((0, 28, 63, 47), fill=3)
            draw.rectangle((house, 6, house + 14, 27), fill=1)
            draw.rectangle((car, 20, car + 12, 34), fill=8)
            draw.rectangle((0, 44, 63, 47), fill=VOID)
            ids = np.asarray(label)
            noise = rng.integers(-20, 21, (*ids.shape, 3))
            image = np.clip(palette[ids] + noise, 0, 255).astype(np.uint8)
            name = f"{split}_{index}.png"
            Image.fromarray(image).save(folder / split / name)
            label.save(folder / f"{split}annot" / name)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    return folder


@contextlib.contextmanager
def once(path: Path) -> Iterator[bool]:
    """True in the first of the test processes that come here; the others wait for its end."""
    with open(path.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield not path.exists()


@pytest.fixture(scope="session")
def workplace(tmp_path_factory) -> Iterator[Workplace]:
    """The miniature, prepared by the command line; one for all of pytest's processes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    place = Workplace(folder / "workplace")
    with once(folder / "workplace.done") as first:
        if first:
            (place.folder / "home").mkdir(parents=True)
            write_camvid(place.source)
            process = place.start("prepare", *place.config(), f"--source={place.source}")
            assert "8 train, 4 val examples" in succeed(finish(process)).stdout
            (folder / "workplace.done").touch()
    yield place
    place.close()


@pytest.fixture(scope="session")
def finished(workplace) -> Iterator[Path]:
    """The workdir of a run that nothing interrupted; nothing may change it."""
    workdir = workplace.folder / "finished"
    with once(workplace.folder / "finished.done") as first:
        if first:
            process = workplace.start("train", f"--workdir={workdir}", *workplace.config())
            outcome = succeed(finish(process))
            assert "mean IoU" in outcome.stdout
            workplace.said.write_text(outcome.stderr)
            (workplace.folder / "finished.done").touch()
    before = digests(workdir)
    yield workdir
    assert digests(workdir) == before
