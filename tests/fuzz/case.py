"""What a hostile case is made of, and the house that it is tried in."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.runs import Workplace

Rng = np.random.Generator


@dataclasses.dataclass(frozen=True)
class Place:
    """A case's own folder; `workplace` and `finished` are shared, so not to be changed."""

    folder: Path
    workplace: Workplace
    finished: Path

    @property
    def output(self) -> Path:
        """The one place where a command may write."""
        return self.folder / "output"


@dataclasses.dataclass(frozen=True)
class Case:
    """A command on hostile input.

    Attributes:
      arguments: of `main.py`.
      writable: what below the case's folder the command may write to besides `Place.output`.
      check: asserts more of a command that ended, given its status; None for nothing more.
    """

    arguments: list
    writable: tuple[Path, ...] = ()
    check: Callable[[int], None] | None = None


# Makes a case's input from random numbers.
Family = Callable[[Place, Rng], Case]
