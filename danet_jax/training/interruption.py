"""SIGTERM and Ctrl-C as a wish to stop, which the loop grants between two steps."""

import contextlib
import signal
from collections.abc import Iterator


class Interruption:
    """Becomes true when a signal asks to stop; `name` is the signal's."""

    name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None

    def _handle(self, number: int, _frame: object) -> None:
        if self.name is not None and number == signal.SIGINT:
            # Whoever presses Ctrl-C twice does not want to wait for the checkpoint.
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def interruptible(*, alone: bool = True) -> Iterator[Interruption]:
    """Catches SIGTERM and SIGINT inside the block, where this process runs `alone`.

    Several processes must stop at the same step: there JAX's preemption notice, which listens for
    SIGTERM itself, tells all of them.
    """
    interruption = Interruption()
    if not alone:
        yield interruption
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    former = {number: signal.signal(number, interruption._handle) for number in signals}
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
