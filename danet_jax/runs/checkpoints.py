"""Checkpoints that hold everything a run is: its arrays, its place in the data, its best score."""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from danet_jax.base import shapes
from danet_jax.base.errors import UserError
from danet_jax.base.files import replace_file
from danet_jax.base.json_files import is_there, read_json
from danet_jax.base.texts import one_line
from danet_jax.base.wording import listed
from danet_jax.console.terminal import say
from danet_jax.runs.checkpoint_files import (
    CHECKSUM,
    DIGEST,
    READ_AT_ONCE,
    RECORD,
    REPLACED,
    SCORE,
    foreign_files,
    is_checkpoint,
    is_unfinished,
)
from danet_jax.runs.digests import digest
from danet_jax.runs.orbax_failures import abandoned_reads_ignored, failures
from danet_jax.runtime import parallel

# Two, so that a run goes on from the older one where the newest was damaged.
KEPT_LATEST = 2
_DAMAGED = (
    "the checkpoint {} is damaged. Move that folder away: training then goes on from the one "
    "before it, and evaluation takes the best of the others"
)
# A tree of arrays by name, such as "step", "params" and "opt_state".
Arrays = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Record:
    """What a checkpoint holds beside the state: JSON values."""

    # The data stream's place.
    stream: dict[str, Any]
    config: dict[str, Any]
    # Metrics of the steps that no record shows yet.
    pending: list[dict[str, float]] = dataclasses.field(default_factory=list)


_FIELDS = [field.name for field in dataclasses.fields(Record)]
# The names in a record's file.
_KNOWN = {*_FIELDS, DIGEST, "best"}


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
        self._others = _OthersPolicy(self._directory)
        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(KEPT_LATEST),
                preservation_policy.BestN(
                    get_metric_fn=lambda metrics: metrics[SCORE],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                ),
                self._others,
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy,
            best_fn=lambda metrics: metrics[SCORE],
            # It would remove every folder whose name holds ".orbax-checkpoint-tmp".
            cleanup_tmp_directories=False,
        )
        if clean_up:
            with parallel.together():
                if parallel.is_main_process():
                    self._bring_back()
                    self._check_places()
                    self._remove_unfinished()
        self._check_scores()
        handlers = {"state": ocp.StandardCheckpointHandler(), "record": ocp.JsonCheckpointHandler()}
        with failures(f"the checkpoints in {self._directory} cannot be read"):
            self._manager = ocp.CheckpointManager(
                self._directory, options=options, item_handlers=handlers
            )

    def _bring_back(self) -> None:
        """Brings back what the first release set aside to write a score, where it was killed.

        That was the newest step. Only a whole checkpoint of a step above all others is brought
        back; all else of such a name may be a person's own, and stays as it is.
        """
        names = [path.name for path in self._directory.glob("*")]
        newest = max((int(name) for name in names if name.isdecimal()), default=-1)
        for name in names:
            step = name.removeprefix(REPLACED)
            aside = self._directory / f"{REPLACED}{step}"
            is_newest = name == aside.name and step.isdecimal() and int(step) > newest
            if is_newest and is_checkpoint(aside):
                aside.rename(self._directory / step)

    def _check_places(self) -> None:
        """Raises a UserError for what has a step's name here and is not ours to remove."""
        for place in self._directory.glob("*"):
            if is_unfinished(place.name):
                # Orbax would remove it when it saves this step.
                if place.is_symlink() or not place.is_dir() or foreign_files(place):
                    raise UserError(
                        f"{place} has the name of a checkpoint that was not finished, and holds "
                        "something else: move it away. Training removes folders of such names."
                    )
                continue
            if not place.name.isdecimal():
                continue
            if place.is_symlink():
                raise UserError(
                    f"{place} is a link. Training removes checkpoints that newer ones replace, and "
                    "removes no link: put the folder itself here, or move the link away."
                )
            if not any((place / part).is_dir() for part in ("state", "record")):
                raise UserError(
                    f"{place} has the name of a checkpoint, and holds none: move it away. Training "
                    "writes and removes folders of such names."
                )

    def _remove_unfinished(self) -> None:
        """Removes what a killed save left; nothing else has such a name by now."""
        for place in self._directory.glob("*"):
            if is_unfinished(place.name):
                shutil.rmtree(place, ignore_errors=True)

    def _check_scores(self) -> None:
        """Orbax reads those of all steps at once, and names none that it cannot read."""
        for place in self._directory.glob("*"):
            if not place.name.isdigit():
                continue
            _check_kinds(place.glob("*"), place)
            for name, shape in READ_AT_ONCE.items():
                # A training beside this may remove the step meanwhile.
                if is_there(place / name):
                    with contextlib.suppress(FileNotFoundError):
                        found = _read_part(place, name, shape)
                        # The first release wrote no checksum.
                        if CHECKSUM in found and found != _with_checksum(found[SCORE]):
                            raise _damaged(place, f"{place / name} is not what was written")

    def latest_step(self) -> int | None:
        """Step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Step of the checkpoint with the best score, None before the first evaluation."""
        return self._manager.best_step()

    def has_score(self, step: int) -> bool:
        """True where the checkpoint of a step was evaluated."""
        return self._manager.metrics(step) is not None

    def best(self) -> tuple[int, float] | None:
        """Step and score of the best checkpoint, the later of two equal ones."""
        step = self.best_step()
        return None if step is None else (step, self._manager.metrics(step)[SCORE])

    def save(self, step: int, arrays: Arrays, record: Record) -> None:
        """Starts writing a checkpoint of this step; the arrays may be donated at once."""
        with failures(f"the checkpoint of step {step} could not be written to {self._directory}"):
            # Found out here, since Orbax's threads wait five minutes for a folder that never comes.
            self._directory.mkdir(parents=True, exist_ok=True)
            if not os.access(self._directory, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            # Orbax would do so itself, after it had made room for this step.
            self.wait()
            self._check_free(step)
            content = dataclasses.asdict(record)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays),
                    record=ocp.args.JsonSave(content | {DIGEST: digest(arrays, content)}),
                ),
                force=True,
            )

    def _check_free(self, step: int) -> None:
        """Raises a UserError where something came to the place of a step that is to be saved.

        Orbax would remove it: the step's own folder and the one where it writes it first.
        """
        with parallel.together():
            if not parallel.is_main_process():
                return
            for place in self._directory.glob(f"{step}*"):
                if place.name == str(step) or (
                    is_unfinished(place.name) and place.name.startswith(f"{step}.")
                ):
                    raise UserError(
                        f"{place} came here while the training was running, which is to write a "
                        "checkpoint of this name: move it away, and start the training again."
                    )

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def record(self, step: int) -> Record:
        """Returns the record of a step without its arrays; a UserError where it is damaged."""
        read = _read_part(self._directory / str(step), "record/metadata", RECORD)
        return Record(**{name: read[name] for name in _FIELDS if name in read})

    def add_score(self, step: int, score: float) -> None:
        """Notes the score of a saved step, and removes the checkpoints that it makes needless."""
        # An error of writing the arrays comes first, since it explains what follows.
        self.wait()
        with failures(f"the score of step {step} could not be written to {self._directory}"):
            with parallel.together():
                if parallel.is_main_process():
                    # Orbax looks for the score here, so the arrays need not be written again.
                    file = self._directory / str(step) / "metrics" / "metrics"
                    replace_file(file, data=json.dumps(_with_checksum(score)).encode())
            self._manager.reload()
            needless = [
                former
                for former in self.steps()[:-KEPT_LATEST]
                if self._others.may_remove(former) and former != self._manager.best_step()
            ]
            # One process decides, before any folder is gone: another one that looked later would
            # find less to remove, and be elsewhere while the others wait for it.
            for former in parallel.gather(needless)[0]:
                self._manager.delete(former)

    def restore(self, step: int, wanted: Arrays | jax.sharding.Sharding) -> tuple[Arrays, Record]:
        """Returns the arrays and the record of a step.

        Args:
          step: of a checkpoint.
          wanted: arrays or `jax.ShapeDtypeStruct`s of the same names and shapes, where the restored
            ones are placed as these; or where to place all arrays that there are, which then come
            in dicts alone.

        Raises:
          UserError: there is none of this step, it is damaged or has other arrays than `wanted`.
        """
        if step not in (steps := self.steps()):
            raise UserError(
                f"there is no checkpoint of step {step} in {self._directory}; there are those of "
                f"{', '.join(map(str, steps)) or 'none'}."
            )
        place = self._directory / str(step)
        damaged = _DAMAGED.format(place)
        _check_kinds(place.rglob("*"), place)
        with failures(damaged):
            saved = self._manager.item_metadata(step)["state"].tree
        record = _read_part(place, "record/metadata", RECORD)
        if unknown := record.keys() - _KNOWN:
            raise UserError(
                f"The record of the checkpoint {place} holds {listed(map(one_line, unknown))}, "
                "which this version does not know: go on with the version that wrote it. If it was "
                f"this one, {damaged}."
            )
        if isinstance(wanted, jax.sharding.Sharding):
            abstract = jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=wanted), saved
            )
        else:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, wanted)
            # Compared before any array is read.
            check_arrays(saved, abstract, place)
        with failures(damaged), abandoned_reads_ignored():
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), record=ocp.args.JsonRestore()
                ),
            )
            record = restored["record"]
            # The first release wrote none.
            written = record.pop(DIGEST, None)
            if written not in (None, digest(restored["state"], record)):
                raise ValueError("it does not hold what was saved")
            record.pop("best", None)
            return restored["state"], Record(**record)

    def reached_preemption(self, step: int) -> bool:
        """True on all processes at the step where a multi-host job is to save and end."""
        return self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        with failures(f"the last checkpoint could not be written to {self._directory}"):
            self._manager.wait_until_finished()
            self._manager.check_for_errors()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self.wait()
        self._manager.close()


class _OthersPolicy(preservation_policy.PreservationPolicy):
    """Keeps what has a step's name and is no checkpoint of ours, or holds a person's files, too."""

    def __init__(self, directory: Path):
        self._directory = directory
        self._named: set[int] = set()

    def should_preserve(
        self,
        checkpoints: Sequence[Any],
        *,
        context: preservation_policy.PreservationContext,
    ) -> Sequence[bool]:
        del context
        return [not self.may_remove(one.step) for one in checkpoints]

    def may_remove(self, step: int) -> bool:
        """Whether a step's folder holds a checkpoint of ours and nothing else."""
        place = self._directory / str(step)
        if not is_checkpoint(place):
            return False
        if not (others := foreign_files(place)):
            return True
        if step not in self._named and parallel.is_main_process():
            self._named.add(step)
            say(
                f"warning: {place} is kept, as it holds {listed(map(one_line, others))}, which "
                "this training did not write"
            )
        return False


def eval_variables(arrays: Arrays) -> Arrays:
    """Returns the variables to evaluate and predict with: the moving average where there is one."""
    if arrays.get("ema"):
        return arrays["ema"]
    return {"params": arrays["params"], "batch_stats": arrays["batch_stats"]}


def check_arrays(saved: Any, wanted: Any, place: Path) -> None:
    """Raises a UserError where a checkpoint's arrays have other names or shapes than the wanted."""
    if differing := _differing(saved, wanted):
        raise UserError(
            f"The checkpoint {place} is of another model or optimiser: " + "; ".join(differing)
        )


def _with_checksum(score: float) -> dict[str, float]:
    return {SCORE: score, CHECKSUM: zlib.crc32(repr(score).encode())}


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


def _damaged(place: Path, reason: str) -> UserError:
    what = _DAMAGED.format(place)
    return UserError(f"{what[0].upper()}{what[1:]} ({reason}).")


def _read_part(place: Path, name: str, shape: shapes.Shape) -> Any:
    """Reads a JSON file of a checkpoint; a UserError that says which where it is damaged."""
    path = place / name
    if not path.parent.exists():
        raise FileNotFoundError(path)
    try:
        return read_json(path, shape, error=UserError, advice="")
    except UserError as error:
        raise _damaged(place, str(error).rstrip(" .")) from None


def _check_kinds(paths: Iterable[Path], place: Path) -> None:
    """Raises a UserError for pipes and devices in a checkpoint, which to read may never end."""
    for path in paths:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise _damaged(place, f"{path} is a pipe or a device")
