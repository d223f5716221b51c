"""What a benchmark runs and times."""

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Workload:
    """A computation that is timed; a call returns when all of it is done, also on a device."""

    call: Callable[[], Any]
    # Bytes that it holds beside its arguments and results; None where nobody counts them.
    temporaries: int | None = None
    # Measures the seconds of one unit of work, where work goes on between calls; None: a call's
    # own duration is measured.
    seconds: Callable[[], float] | None = None
    # The arrays that a call computes, in an order and a layout that all frameworks share; None
    # where the call's value is compared.
    arrays: Callable[[], list[Any]] | None = None
