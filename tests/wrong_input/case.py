"""What a case of wrong input is made of."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.runs import Workplace

CASES: dict[str, "Case"] = {}


@dataclasses.dataclass(frozen=True)
class Place:
    """A case's own folder; `workplace` and `finished` are shared, so not to be changed."""

    folder: Path
    workplace: Workplace
    finished: Path

    def copy_run(self) -> Path:
        return shutil.copytree(self.finished, self.folder / "run")

    def copy_source(self) -> Path:
        return shutil.copytree(self.workplace.source, self.folder / "CamVid")

    def train(self, *overrides: str, workdir: Path | None = None) -> list:
        workdir = workdir or self.folder / "new"
        return ["train", f"--workdir={workdir}", *self.workplace.config(*overrides)]

    def prepare(self, source: Path, config: str = "configs/camvid.py") -> list:
        data = f"--config.data.data_dir={self.folder / 'data'}"
        return ["prepare", f"--config={config}", data, f"--source={source}"]

    def predict(self, image: Path, output: Path | None = None) -> list:
        output = output or self.folder / "output"
        return ["predict", f"--workdir={self.finished}", f"--input={image}", f"--output={output}"]


@dataclasses.dataclass(frozen=True)
class Case:
    """Wrong input, made by `arrange`, which returns the arguments; the message holds `says`."""

    arrange: Callable[[Place], list]
    says: tuple[str, ...]
    environment: Mapping[str, str]


def refused(*says: str, **environment: str):
    """Makes a function that returns arguments a case of CASES."""

    def register(arrange):
        CASES[arrange.__name__] = Case(arrange, says, environment)
        return arrange

    return register
