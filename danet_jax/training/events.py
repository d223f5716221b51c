"""TensorBoard's event files."""

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Keeps a module from being imported in the block, as tensorboardX does if it can."""
    was_there = name in sys.modules
    if not was_there:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not was_there:
            del sys.modules[name]


# PyTorch takes two seconds and 0.2 GB.
with _hidden("torch"):
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.summary import scalar

_SECONDS_BETWEEN_FLUSHES = 30


class Events:
    """One file more in a folder of events.

    Written by the caller's own thread: that of tensorboardX's SummaryWriter ends at the first error
    of a full disk, and after ten more values training would wait for it forever.

    Args:
      folder: made if missing.
      purge_step: TensorBoard hides what older files hold from this step on.
    """

    def __init__(self, folder: Path, *, purge_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        start = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(step=purge_step, session_log=start))
        self._flushed = time.monotonic()

    def add(self, step: int, values: dict[str, float]) -> None:
        """Adds scalars by name; an OSError where they cannot be written."""
        for name, value in values.items():
            event = Event(step=step, wall_time=time.time(), summary=scalar(name, value))
            self._writer.write_event(event)
        if time.monotonic() - self._flushed > _SECONDS_BETWEEN_FLUSHES:
            self.flush()

    def flush(self) -> None:
        """Brings all to disk; an OSError where that is not possible."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left; an OSError where that is not possible."""
        self._writer.close()
