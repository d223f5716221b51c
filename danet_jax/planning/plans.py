"""A plan: what a step of training takes on absent chips, and what was tried beside it."""

import dataclasses
from typing import Any

from danet_jax.planning.chips import Topology
from danet_jax.planning.remedies import usable_memory
from danet_jax.planning.roofline import Roofline, roofline


@dataclasses.dataclass(frozen=True)
class Tried:
    """A change that was tried: its arguments, its cost, and what came out."""

    overrides: tuple[str, ...]
    cost: str
    measured: dict[str, Any]
    fits: bool


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training takes on one topology."""

    topology: Topology
    batch_size: int
    # Examples that a chip sees at a time; a fraction where chips share an image.
    examples: float
    dtype: str
    # These are the worker's figures; "failed" is among them where the step did not compile.
    measured: dict[str, Any]
    # Updates of the whole training; None where the number of images is not known.
    steps: int | None
    tried: tuple[Tried, ...] = ()

    @property
    def fits(self) -> bool:
        return fits(self.measured, self.topology)

    @property
    def roofline(self) -> Roofline | None:
        if "failed" in self.measured:
            return None
        return roofline(self.measured, self.topology.chip, self.dtype)

    @property
    def hours(self) -> tuple[float, float] | None:
        """Of all steps, as `Roofline.range`; without evaluations and compilation."""
        if self.roofline is None or self.steps is None:
            return None
        low, high = self.roofline.range
        return low * self.steps / 3600, high * self.steps / 3600

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        chip = self.topology.chip
        times = self.roofline
        return {
            "topology": self.topology.name,
            "chips": self.topology.chips,
            "hosts": self.topology.hosts,
            "chip": dataclasses.asdict(chip),
            "batch_size": self.batch_size,
            "examples_per_chip": self.examples,
            "dtype": self.dtype,
            "fits": self.fits,
            "usable_memory_bytes": usable_memory(self.topology),
            "measured": self.measured,
            "roofline_seconds": None if times is None else dataclasses.asdict(times),
            "steps": self.steps,
            "hours": self.hours,
            "tried": [dataclasses.asdict(one) for one in self.tried],
        }


def fits(measured: dict[str, Any], topology: Topology) -> bool:
    """Whether a step compiled, and takes no more memory than a program may."""
    return "failed" not in measured and measured["memory_bytes"] <= usable_memory(topology)


def is_too_large(measured: dict[str, Any], topology: Topology) -> bool:
    """Whether it is known that a step takes more memory than a program may."""
    return measured.get("memory_bytes", 0) > usable_memory(topology)
