"""Accelerators: their published figures, and topologies such as v5e:16x16 or h100:8.

Nothing here needs JAX, so that a misspelt topology is answered at once.
"""

import dataclasses
import difflib
import math
import re

from danet_jax.base.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """The published figures of an accelerator; rates are peaks, a second."""

    name: str
    # This is JAX's name of the platform that its programs are for: "tpu" or "gpu".
    platform: str
    # Bytes of its own memory that programs may use, as XLA's compiler counts it for TPUs.
    memory: int
    # Operations on bfloat16 and on float32, as products of float32 are computed by default: on TPUs
    # from operands rounded to bfloat16, on NVIDIA GPUs to TF32.
    bfloat16_rate: float
    float32_rate: float
    # Bytes between the chip and its memory.
    memory_rate: float
    # Bytes that it sends to its neighbours in a slice, or to other GPUs of its machine; it receives
    # as many meanwhile.
    link_rate: float
    # How many chips a machine has; None where that depends on the slice.
    per_host: int
    # How many sides a slice has; 0 for GPUs, which have a number.
    dimensions: int
    # Which the figures are from.
    source: str

    def rate(self, dtype: str) -> float:
        """Operations a second on activations of this type."""
        return self.bfloat16_rate if dtype == "bfloat16" else self.float32_rate


# Google publishes what a chip sends and receives in all (bidirectional); half of it is sent. So
# does NVIDIA. All were read on 2026-11-27.
_TPU = "https://cloud.google.com/tpu/docs"


def _gib(number: float) -> int:
    return int(number * 2**30)


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v5e", "tpu", _gib(15.75), 197e12, 197e12, 819e9, 200e9, 4, 2, f"{_TPU}/v5e"),
        Chip("v5p", "tpu", _gib(95.74), 459e12, 459e12, 2765e9, 600e9, 4, 3, f"{_TPU}/v5p"),
        Chip("v6e", "tpu", _gib(31.25), 918e12, 918e12, 1600e9, 400e9, 4, 2, f"{_TPU}/v6e"),
        Chip(
            "a100",
            "gpu",
            # XLA's description of the GPU says so; its data sheet says 80 GB.
            85_100_068_864,
            312e12,
            156e12,
            2039e9,
            300e9,
            8,
            0,
            "https://www.nvidia.com/en-us/data-center/a100/ (SXM, 80 GB, without sparsity)",
        ),
        Chip(
            "h100",
            "gpu",
            84_942_979_072,
            989.5e12,
            494.5e12,
            3352e9,
            450e9,
            8,
            0,
            "https://www.nvidia.com/en-us/data-center/h100/ (SXM, 80 GB, without sparsity)",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Chips of one kind that are joined: a slice of a TPU pod, or the GPUs of one machine."""

    chip: Chip
    # The sides of a slice, or the number of GPUs.
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As it is given, such as "v5e:16x16"."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        """Machines, each of which runs one process."""
        return -(-self.chips // self.chip.per_host)


def parse_topology(text: str) -> Topology:
    """Returns the topology that a text such as "v5e:16x16" or "h100:8" names.

    Raises:
      UserError: there is no such chip, or the shape is none of this chip's.
    """
    name, _, shape_text = text.partition(":")
    if name not in CHIPS:
        near = difflib.get_close_matches(name, CHIPS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(
            f"--topology {text}: {name!r} is no chip that is known here: {', '.join(CHIPS)}.{hint}"
        )
    chip = CHIPS[name]
    sides = chip.dimensions
    example = {0: "8", 2: "4x4", 3: "2x2x2"}[sides]
    takes = {0: "the number of GPUs", 2: "two sides", 3: "three sides"}[sides]
    side = r"[1-9]\d{0,3}"
    if not re.fullmatch("x".join([side] * max(sides, 1)), shape_text):
        raise UserError(
            f"--topology {text}: {name} takes {takes} after a colon, such as {name}:{example}."
        )
    topology = Topology(chip, tuple(map(int, shape_text.split("x"))))
    if not sides and topology.chips > chip.per_host:
        raise UserError(
            f"--topology {text}: one machine has at most {chip.per_host} of these GPUs, and "
            "programs for several machines are not compiled here."
        )
    return topology
