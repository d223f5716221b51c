"""How long a step takes at the least, by the published figures of a chip."""

import dataclasses
from typing import Any

from danet_jax.planning.chips import Chip

# Programs that are not tuned by hand seldom reach more than half of a peak; and what the chip
# computes, reads and sends overlaps in part.
_SLOWEST = 2.0


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds of a step on one chip, for each of what it waits for, at the published peaks."""

    arithmetic: float
    memory: float
    network: float

    @property
    def limit(self) -> str:
        """Which of them takes longest."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]

    @property
    def range(self) -> tuple[float, float]:
        """Seconds of a step, from a bound that no program passes to a cautious guess.

        The bound is the longest of the three, as if all overlapped. The guess is their sum at half
        of each peak. Neither holds what starting the exchanges takes, nor waiting for data.
        """
        times = (self.arithmetic, self.memory, self.network)
        return max(times), _SLOWEST * sum(times)


def roofline(measured: dict[str, Any], chip: Chip, dtype: str) -> Roofline:
    """Returns the times of a step.

    Args:
      measured: of `planning.worker.measure`.
      chip: which it was compiled for.
      dtype: of the network's activations.
    """
    return Roofline(
        arithmetic=measured["operations"] / chip.rate(dtype),
        memory=measured["bytes_accessed"] / chip.memory_rate,
        network=measured["bytes_sent"] / chip.link_rate,
    )
