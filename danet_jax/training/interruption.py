"""SIGTERM and Ctrl-C as a wish to stop, which the loop grants between two steps."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Becomes true when a signal asks this process to stop; `name` is the signal's.

    `received` is the signal also where it was passed on to all processes, with which this one stops
    at a common step, and not by becoming true before.
    """

    name: str | None = None
    received: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.name is not None

    def handle(self, number: int, _frame: object) -> None:
        """Takes a signal for this process alone."""
        if self.name is not None and number == signal.SIGINT:
            # Whoever presses Ctrl-C twice does not want to wait for the checkpoint.
            raise KeyboardInterrupt
        if self.name is None:
            _announce(number)
        self.received = signal.Signals(number)
        self.name = self.received.name

    def pass_on(self, number: int, _frame: object) -> None:
        """Takes the first Ctrl-C as a SIGTERM, which JAX tells all processes of."""
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        # An evaluation takes all processes, which cannot leave it together.
        _announce(number, after="this step or evaluation")
        os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def interruptible(*, alone: bool = True) -> Iterator[Interruption]:
    """Catches SIGTERM and SIGINT inside the block, where this process runs `alone`.

    Several processes must stop at the same step: there JAX's preemption notice, which listens for
    SIGTERM itself, tells all of them, and Ctrl-C is passed on to it.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        # Python takes handlers from the main thread alone; signals keep those that they have.
        yield interruption
        return
    catch = dict.fromkeys(_SIGNALS, interruption.handle)
    if not alone:
        # SIGTERM has a handler that Python does not know, so is not to be touched.
        catch = {signal.SIGINT: interruption.pass_on}
    former = {number: signal.signal(number, handler) for number, handler in catch.items()}
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _announce(number: int, *, after: str = "this step") -> None:
    # This does not go through `console`, whose lock the interrupted code may hold.
    text = f"\n{signal.Signals(number).name}: saving after {after}; Ctrl-C now stops at once\n"
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.__stderr__.fileno(), text.encode())  # type: ignore[union-attr]
