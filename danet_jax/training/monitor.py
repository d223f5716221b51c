"""What a person sees of a run: a progress line, metrics.jsonl, TensorBoard events."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from danet_jax.base.errors import UserError
from danet_jax.base.files import replace_file
from danet_jax.console.terminal import console
from danet_jax.runs.history import METRICS_FILE, metrics_lines, parse_metrics
from danet_jax.training.events import Events


class Monitor:
    """Writes metrics of steps to the workdir and shows them.

    Args:
      workdir: holds metrics.jsonl and tensorboard/.
      step: where the run starts; records of later steps, left by a killed run that got further
        than its last checkpoint, are removed.
      scored: False where the checkpoint of that step has no score yet, so that a record of its
        evaluation, left by a kill before the score was saved, is removed, too.
      total_steps: length of the progress bar.
      visible: False on all but one of several processes, which then write and show nothing.
    """

    def __init__(
        self,
        workdir: Path,
        *,
        step: int,
        total_steps: int,
        scored: bool = True,
        visible: bool = True,
    ):
        self._visible = visible
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not visible,
        )
        self._task = self._progress.add_task("train", total=total_steps, completed=step, note="")
        if visible:
            self._path = workdir / METRICS_FILE
            _drop_later_records(self._path, step, scored=scored)
            # Unbuffered: after a full disk nothing is left over for close() to fail on again.
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115
            self._events = Events(workdir / "tensorboard", purge_step=step + 1 if step else 0)
        self._step, self._time = step, time.perf_counter()

    def __enter__(self) -> "Monitor":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        if self._visible:
            self._file.close()
            # metrics.jsonl holds the same.
            with contextlib.suppress(OSError):
                self._events.close()

    def advance(self, step: int) -> None:
        """Moves the bar."""
        self._progress.update(self._task, completed=step)

    def write_training(self, step: int, metrics: dict[str, float], *, batch_size: int) -> None:
        """Adds the speed since the last call and writes one record."""
        now = time.perf_counter()
        speed = (step - self._step) * batch_size / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        self._write(step, {**metrics, "images_per_second": speed}, group="train")
        self._progress.update(
            self._task,
            note=f"loss {metrics['loss']:.3f}  lr {metrics['learning_rate']:.1e}  {speed:.1f}/s",
        )
        if self._visible and not console.is_terminal:
            # A log file shows no bar.
            console.print(
                f"step {step}  loss {metrics['loss']:.4f}  lr {metrics['learning_rate']:.2e}  "
                f"{speed:.1f} images/s",
                highlight=False,
            )

    def write_evaluation(self, step: int, metrics: dict[str, float]) -> None:
        """Writes one record and a line that stays on the screen."""
        self._write(step, metrics, group="eval")
        if self._visible:
            shown = "  ".join(
                f"{name.replace('_', ' ')} {metrics[name]:.4f}"
                for name in ("mean_iou", "pixel_accuracy")
            )
            console.print(f"step {step}  [bold]{shown}[/bold]", highlight=False)

    def flush(self) -> None:
        """Brings to disk what was written, as a run that goes on from here does not repeat it."""
        if self._visible:
            with _failures(self._step, self._path):
                self._events.flush()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time inside the block out of images per second."""
        start = time.perf_counter()
        yield
        self._time += time.perf_counter() - start

    def _write(self, step: int, metrics: dict[str, float], *, group: str) -> None:
        if not self._visible:
            return
        values = {name: float(value) for name, value in metrics.items()}
        with _failures(step, self._path):
            self._file.write((json.dumps({"step": step, **values}) + "\n").encode())
            self._events.add(step, {f"{group}/{name}": value for name, value in values.items()})


@contextlib.contextmanager
def _failures(step: int, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The metrics of step {step} could not be written to {path.parent}: {error.strerror}."
        ) from error


def _drop_later_records(path: Path, step: int, *, scored: bool) -> None:
    lines = metrics_lines(path)
    kept = []
    for line in lines:
        record = parse_metrics(line)
        if record is None:
            # A line that a crash has cut is the last one; what else is no record stays as it is.
            if line.endswith(b"\n"):
                kept.append(line)
            continue
        owed = record["step"] == step and "mean_iou" in record and not scored
        if record["step"] <= step and not owed:
            kept.append(line if line.endswith(b"\n") else line + b"\n")
    if kept != lines:
        replace_file(path, data=b"".join(kept))
