"""Where the time of a run goes: seconds by kind of work, and a trace of some rounds."""

import collections
import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import jax

from danet_jax.console.terminal import say
from danet_jax.runtime import parallel

FOLDER = "profile"
# The first rounds compile.
_FIRST, _ROUNDS = 3, 3
_NAMES = (
    "input wait",
    "host transfer",
    "compilation",
    "step",
    "prediction",
    "checkpoint",
    "evaluation",
)

T = TypeVar("T")


class Profile:
    """Adds up seconds by kind of work, and traces some rounds of a loop.

    Args:
      folder: for the trace; None for the sums alone.
    """

    def __init__(self, folder: Path | None = None):
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self._folder = folder
        self._rounds = 0
        self._tracing = False
        self._problem = ""
        self._earlier_traces = self._traces()
        self._began = time.perf_counter()

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @contextlib.contextmanager
    def spend(self, name: str) -> Iterator[None]:
        """Counts the block's time as this kind of work."""
        start = time.perf_counter()
        try:
            with jax.profiler.TraceAnnotation(name):
                yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def waiting(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the wait for each is "input wait"."""
        iterator = iter(batches)
        while True:
            with self.spend("input wait"):
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch

    def begin_round(self, wait_for: object = None) -> None:
        """Tells that the loop begins anew; `wait_for` are arrays of the rounds before."""
        self._rounds += 1
        if self._folder is None:
            return
        if self._rounds in (_FIRST, _FIRST + _ROUNDS):
            # Computations that are still in a queue would be in the trace by halves.
            jax.block_until_ready(wait_for)
        if self._rounds == _FIRST:
            # Without every call in Python, of which there are a hundred times as many.
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            with self._noting_problems():
                self._folder.mkdir(parents=True, exist_ok=True)
                jax.profiler.start_trace(
                    self._folder, create_perfetto_trace=True, profiler_options=options
                )
                self._tracing = True
        elif self._rounds == _FIRST + _ROUNDS:
            self._stop()

    def summary(self) -> list[str]:
        """Lines for a person."""
        total = time.perf_counter() - self._began
        known = {name: self.seconds[name] for name in _NAMES if name in self.seconds}
        shown = {**known, "other": max(total - sum(known.values()), 0.0)}
        lines = [f"Where the time of {self._rounds} rounds went, {total:.1f} s in all:"]
        lines += [f"  {n:<14}{s:9.2f} s {100 * s / total:6.1f} %" for n, s in shown.items()]
        traces = self._traces() - self._earlier_traces
        if traces:
            lines.append(f"Trace: {max(traces)}; open it in https://ui.perfetto.dev,")
            lines.append(f"or the folder with `tensorboard --logdir={self._folder}`")
        elif self._folder:
            lines.append(f"No trace: {self._problem or f'it begins with round {_FIRST}'}.")
        return lines

    def _traces(self) -> set[Path]:
        return set(self._folder.rglob("perfetto_trace.json.gz")) if self._folder else set()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            with self._noting_problems():
                jax.profiler.stop_trace()

    @contextlib.contextmanager
    def _noting_problems(self) -> Iterator[None]:
        """A trace that cannot be written stops no training."""
        try:
            yield
        except Exception as error:  # whatever the profiler raises, a full disk among it
            self._problem = str(error)


@contextlib.contextmanager
def profiled(workdir: Path, *, asked: bool) -> Iterator[Profile]:
    """Notes where the time goes; where asked, traces some rounds and says it at the end."""
    traced = asked and parallel.is_main_process()
    with Profile(workdir / FOLDER if traced else None) as profile:
        yield profile
    if traced:
        say("\n".join(profile.summary()))
