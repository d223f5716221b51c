"""Checkpoints that hold everything a run is: its state, its place in the data, its best score."""

import contextlib
import dataclasses
import errno
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from danet_base import shapes
from danet_base.json_files import is_there, read_json
from danet_base.texts import one_line
from danet_jax import parallel
from danet_jax.errors import SharedError, UserError
from danet_jax.experiment import REPLACED
from danet_jax.training.state import TrainState
from danet_jax.wording import listed

# Two, so that a run goes on from the older one where the newest was damaged.
KEPT_LATEST = 2
_SCORE = "score"
_ARRAYS = ("step", "params", "batch_stats", "opt_state", "ema")
_DAMAGED = "the checkpoint {} is damaged. Move that folder away, and the one before it is used"
# Nanoseconds since 1970.
_TIME = shapes.optional(shapes.whole(0, 2**62))
# What Orbax reads of all steps when it begins.
_READ_AT_ONCE = {
    "metrics/metrics": shapes.fields({_SCORE: shapes.number}),
    "_CHECKPOINT_METADATA": shapes.fields(
        {},
        {
            "item_handlers": shapes.map_of(shapes.text),
            "metrics": shapes.map_of(shapes.any_number),
            "performance_metrics": shapes.map_of(shapes.any_number),
            "init_timestamp_nsecs": _TIME,
            "commit_timestamp_nsecs": _TIME,
            "custom_metadata": shapes.map_of(shapes.anything),
        },
    ),
}
# What `Record` is written as.
_RECORD = shapes.fields(
    {
        "stream": shapes.fields({}, {"next_batch": shapes.whole()}),
        "best": shapes.optional(shapes.fields({"step": shapes.whole(), "score": shapes.number})),
        "config": shapes.map_of(shapes.anything),
    },
    {"pending": shapes.list_of(shapes.map_of(shapes.number))},
)


@dataclasses.dataclass(frozen=True)
class Record:
    """What a checkpoint holds beside the state: JSON values."""

    # The data stream's place.
    stream: dict[str, Any]
    # The best evaluation so far, {"step": …, "score": …}, or None before the first.
    best: dict[str, Any] | None
    config: dict[str, Any]
    # Metrics of the steps that no record shows yet.
    pending: list[dict[str, float]] = dataclasses.field(default_factory=list)


class Checkpointer:
    """A workdir's checkpoints: the latest two and the one with the best score.

    They are written in the background and renamed when whole, so a kill at any moment leaves the
    former ones as they were.

    Args:
      directory: holds one folder a step.
      clean_up: remove what a killed run left half-written; only for a run's own processes.
    """

    def __init__(self, directory: Path, *, clean_up: bool = False):
        # Orbax logs each phase of each save as a warning, and each exception before it raises it.
        for logger in ("absl", "asyncio"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._directory = directory.absolute()
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(KEPT_LATEST),
                preservation_policy.BestN(
                    get_metric_fn=lambda metrics: metrics[_SCORE],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics[_SCORE],
            cleanup_tmp_directories=clean_up,
        )
        if clean_up:
            with parallel.together():
                if parallel.is_main_process():
                    self._bring_back()
        self._check_scores()
        handlers = {"state": ocp.StandardCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
        with _failures(f"the checkpoints in {self._directory} cannot be read"):
            self._manager = ocp.CheckpointManager(
                self._directory, options=options, item_handlers=handlers
            )

    def _aside(self, step: int) -> Path:
        return self._directory / f"{REPLACED}{step}"

    def _bring_back(self) -> None:
        """Undoes a replacement that a kill or an error cut short."""
        for aside in self._directory.glob(f"{REPLACED}*"):
            place = self._directory / aside.name.removeprefix(REPLACED)
            if not place.name.isdigit():
                # Nothing that `save` has set aside.
                continue
            if place.exists():
                shutil.rmtree(aside)
            else:
                aside.rename(place)

    def _check_scores(self) -> None:
        """Orbax reads those of all steps at once, and names none that it cannot read."""
        for place in self._directory.glob("*"):
            if not place.name.isdigit():
                continue
            _check_kinds(place.glob("*"), place)
            for name, shape in _READ_AT_ONCE.items():
                # A training beside this may remove the step meanwhile.
                if is_there(place / name):
                    with contextlib.suppress(FileNotFoundError):
                        _read_part(place, name, shape)

    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Step of the checkpoint with the best score, None before the first evaluation."""
        return self._manager.best_step()

    def has_score(self, step: int) -> bool:
        """True where the checkpoint of a step was evaluated."""
        return self._manager.metrics(step) is not None

    def save(self, state: TrainState, record: Record, *, score: float | None = None) -> None:
        """Starts writing a checkpoint of this step; the state may be donated at once.

        One of the same step that is there is replaced.
        """
        step = int(state.step)
        arrays = {name: getattr(state, name) for name in _ARRAYS}
        with _failures(f"the checkpoint of step {step} could not be written to {self._directory}"):
            # Found out here, since Orbax's threads wait five minutes for a folder that never comes.
            self._directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self._directory, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            replaced = step in self._manager.all_steps()
            if replaced:
                # Set aside, not deleted: a kill before the new one is whole brings it back.
                with parallel.together():
                    if parallel.is_main_process():
                        (self._directory / str(step)).rename(self._aside(step))
                self._manager.reload()
            try:
                self._manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(arrays),
                        record=ocp.args.JsonSave(dataclasses.asdict(record)),
                    ),
                    metrics=None if score is None else {_SCORE: score},
                    force=True,
                )
                if replaced:
                    self._manager.wait_until_finished()
            finally:
                if replaced and parallel.is_main_process():
                    self._bring_back()

    def restore(self, state: TrainState, *, step: int) -> tuple[TrainState, Record]:
        """Returns the state and record of a step, each array placed as `state`'s is.

        Args:
          state: of the same model and optimiser; its arrays may be `jax.ShapeDtypeStruct`s.
          step: of a checkpoint.

        Raises:
          UserError: there is none of this step, it is damaged or does not fit `state`.
        """
        if step not in (steps := sorted(self._manager.all_steps())):
            raise UserError(
                f"there is no checkpoint of step {step} in {self._directory}; there are those of "
                f"{', '.join(map(str, steps)) or 'none'}."
            )
        abstract = {
            name: jax.tree.map(ocp.utils.to_shape_dtype_struct, getattr(state, name))
            for name in _ARRAYS
        }
        place = self._directory / str(step)
        damaged = _DAMAGED.format(place)
        _check_kinds(place.rglob("*"), place)
        with _failures(damaged):
            saved = self._manager.item_metadata(step)["state"].tree
        record = _read_part(place, "record/metadata", _RECORD)
        unknown = record.keys() - {field.name for field in dataclasses.fields(Record)}
        if unknown:
            raise UserError(
                f"The record of the checkpoint {place} holds {listed(map(one_line, unknown))}, "
                "which this version does not know: go on with the version that wrote it."
            )
        # Compared before any array is read.
        if differing := _differing(saved, abstract):
            raise UserError(
                f"The checkpoint {place} is of another model or optimiser: " + "; ".join(differing)
            )
        with _failures(damaged), _abandoned_reads_ignored():
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), record=ocp.args.JsonRestore()
                ),
            )
        return state.replace(**restored["state"]), Record(**restored["record"])

    def reached_preemption(self, step: int) -> bool:
        """True on all processes at the step where a multi-host job is to save and end."""
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        with _failures(f"the last checkpoint could not be written to {self._directory}"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self.wait()
        self._manager.close()


def _differing(saved: Any, wanted: Any, *, shown: int = 3) -> list[str]:
    """Returns the first arrays that are not of the same name and shape on both sides, in words."""
    there, here = (
        {
            jax.tree_util.keystr(path, simple=True, separator="."): leaf.shape
            for path, leaf in leaves
        }
        for leaves in map(jax.tree.leaves_with_path, (saved, wanted))
    )
    absent = "absent"
    # The parameters' names say more than those of the optimiser's copies of them.
    names = sorted(
        (name for name in here | there if here.get(name) != there.get(name)),
        key=lambda name: not name.startswith("params"),
    )
    words = [
        f"{name} is {there.get(name, absent)} in it, {here.get(name, absent)} in this run"
        for name in names[:shown]
    ]
    return words + ([f"and {len(names) - shown} more"] if len(names) > shown else [])


def _read_part(place: Path, name: str, shape: shapes.Shape) -> Any:
    """Reads a JSON file of a checkpoint; a UserError that says which where it is damaged."""
    path = place / name
    if not path.parent.exists():
        raise FileNotFoundError(path)
    try:
        return read_json(path, shape, error=UserError, advice="")
    except UserError as error:
        what = _DAMAGED.format(place)
        raise UserError(f"{what[0].upper()}{what[1:]} ({str(error).rstrip(' .')}).") from None


def _check_kinds(paths: Iterable[Path], place: Path) -> None:
    """Raises a UserError for pipes and devices in a checkpoint, which to read may never end."""
    for path in paths:
        if path.exists() and not path.is_file() and not path.is_dir():
            what = _DAMAGED.format(place)
            raise UserError(f"{what[0].upper()}{what[1:]} ({path} is a pipe or a device).")


@contextlib.contextmanager
def _abandoned_reads_ignored() -> Iterator[None]:
    """Keeps a failed read's siblings quiet.

    The first array that cannot be read ends Orbax's event loop; each of the others then prints that
    its loop is closed, some time later, hundreds of lines around the one that says what is wrong.
    """
    former = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            former(unraisable)

    sys.unraisablehook = hook
    yield
    # Not after an error: that is when they come.
    sys.unraisablehook = former


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    # Orbax and TensorStore raise some ten types for a full disk, a torn file or a wrong shape.
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if code := re.search(r"os_error_code='(\d+)'", reason):
            # TensorStore's sentence names the array and the file first, this last.
            reason = os.strerror(int(code.group(1)))
        kind = SharedError if isinstance(error, SharedError) else UserError
        raise kind(f"{what[0].upper()}{what[1:]} ({reason[:300]}).") from error
