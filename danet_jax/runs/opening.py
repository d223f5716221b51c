"""A run's folder while a command writes to it: locked, and as it was where the command fails."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import ml_collections

from danet_jax.base import locks
from danet_jax.base.errors import UserError
from danet_jax.base.files import (
    TEMPORARY_PREFIX,
    check_local,
    make_folder,
    remove_if_empty,
    replace_file,
)
from danet_jax.base.json_files import is_there
from danet_jax.console.terminal import say
from danet_jax.runs import history
from danet_jax.runs.checkpoint_files import is_checkpoint
from danet_jax.runs.config import is_recorded
from danet_jax.runs.folder import (
    ARRAYS_FILE,
    CHECKPOINTS,
    CLASSES_FILE,
    CONFIG_FILE,
    LOCK_FILE,
    MANIFEST,
    ORIGIN_FILE,
    WEIGHTS_FILE,
    Classes,
    check_classes,
    check_same_run,
    has_checkpoint,
    read_config,
    read_file,
    say_unlocked,
    write_file,
)
from danet_jax.runtime import parallel


@contextlib.contextmanager
def opened(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    fresh: bool,
    labels: Classes,
    undo: bool = False,
) -> Iterator[None]:
    """Locks a workdir for a new or a resumed run, and writes its config and classes.

    With `fresh` an old run in it is moved aside first. With `undo` everything is rolled back if the
    block fails before its first checkpoint.

    Raises:
      UserError: the workdir holds a run of another config, something else, or a run that another
        process is training.
    """
    with contextlib.ExitStack() as stack:
        with parallel.together():
            if parallel.is_main_process():
                if fresh and (place := _move_aside(workdir)):
                    say(f"the old run is now in {place}")
                    stack.enter_context(_moved_back_on_failure(workdir.resolve(), place))
                check_workdir(config, workdir)
                check_classes(workdir, labels)
                stack.enter_context(_locked(workdir))
                # This is checked again, as another process may have begun a run meanwhile.
                check_workdir(config, workdir)
                check_classes(workdir, labels)
                if undo:
                    stack.enter_context(_undone_on_failure(workdir))
                write_file(workdir / CONFIG_FILE, config.to_dict())
                # A run that goes on keeps its own: somebody may have chosen other colours.
                if not (has_checkpoint(workdir) and is_there(workdir / CLASSES_FILE)):
                    classes = {"names": labels.names, "colors": labels.colors}
                    write_file(workdir / CLASSES_FILE, classes)
        yield


def check_workdir(config: ml_collections.ConfigDict, workdir: Path) -> None:
    """Raises a UserError where `train` with this config would mix two runs in one folder."""
    check_local(workdir, name="--workdir")
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir {workdir} is a file; name a folder.")
    if not workdir.is_dir() or _is_empty(workdir):
        return
    _check_is_run(workdir)
    if has_checkpoint(workdir):
        check_same_run(read_config(workdir, training=True), config, f"{workdir} holds a run")
        return
    # A run that was stopped before anything was saved is begun anew, often by somebody who goes on
    # to correct the config.
    _check_checkpoints_were_not_moved(workdir)
    _check_replaceable(workdir)


def _check_checkpoints_were_not_moved(workdir: Path) -> None:
    """Raises a UserError for a run that once had checkpoints: its records would be lost."""
    folder = workdir / CHECKPOINTS
    if os.path.lexists(folder) and not folder.exists():
        raise UserError(
            f"{folder} is a link to a place that is not there: bring that back, or give --fresh, "
            "which moves the run aside and starts anew."
        )
    # Training makes the folder before it writes its first record, and never removes it.
    if history.has_records(workdir) and not folder.exists():
        raise UserError(
            f"{workdir} holds the records of a run, but its {CHECKPOINTS} folder is gone: bring it "
            "back, or give --fresh, which moves the run aside and starts anew."
        )
    if history.has_evaluations(workdir) or _went_far(workdir):
        raise UserError(
            f"{workdir} holds the records of a run that had checkpoints, but there is none in "
            f"{folder}: bring the newest back, or give --fresh, which moves the run aside and "
            "starts anew."
        )


def _went_far(workdir: Path) -> bool:
    """Whether a run's records go on where its first checkpoint must have been whole."""
    every = read_config(workdir).train.checkpoint_every
    # The second one is not begun before the first is written.
    return every is not None and history.last_step(workdir) > 2 * every


def _check_replaceable(workdir: Path) -> None:
    """Raises a UserError for files with the names of a run's that no run wrote.

    A run that has no checkpoint is begun anew, and then its files are written over.
    """
    for name in (CLASSES_FILE, WEIGHTS_FILE, ORIGIN_FILE):
        if is_there(workdir / name):
            try:
                read_file(workdir, name)
            except UserError as error:
                raise UserError(
                    f"{workdir / name} would be lost, and is not one that a run wrote: move it "
                    f"away first. ({error})"
                ) from None


def _move_aside(workdir: Path) -> Path | None:
    """Renames an old run's folder; returns its new place, None where there is nothing to move."""
    if not workdir.is_dir() or _is_empty(workdir):
        return None
    _check_is_run(workdir)
    # Links are resolved, so that the new run is made at the old one's real location.
    workdir = workdir.resolve()
    if Path.cwd().is_relative_to(workdir):
        raise UserError(
            f"--fresh cannot move {workdir}, the current folder: start from outside it."
        )
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    place = workdir.with_name(f"{workdir.name}.{stamp}")
    number = 1
    while os.path.lexists(place):
        number += 1
        place = workdir.with_name(f"{workdir.name}.{stamp}_{number}")
    with _locked(workdir):
        workdir.rename(place)
    return place


@contextlib.contextmanager
def _moved_back_on_failure(workdir: Path, place: Path) -> Iterator[None]:
    """Brings an old run back to its workdir where the block fails and has left nothing there."""
    try:
        yield
    except BaseException:
        if not os.path.lexists(workdir):
            place.rename(workdir)
            say(f"the old run is in {workdir} again")
        raise


def _is_empty(workdir: Path) -> bool:
    names = {path.name for path in workdir.iterdir()}
    return all(name == LOCK_FILE or name.startswith(TEMPORARY_PREFIX) for name in names)


def _check_is_run(workdir: Path) -> None:
    # An export holds the config and the classes of its run, but no run.
    if not _holds_checkpoint(workdir):
        for name in (MANIFEST, ARRAYS_FILE):
            if is_there(workdir / name):
                raise UserError(
                    f"--workdir {workdir} holds exported weights ({name}), not a run: name a new "
                    "or an empty folder."
                )
    # The name config.json is common, so its content counts, or a checkpoint of ours beside it.
    if (workdir / CONFIG_FILE).is_file() and (_is_config(workdir) or _holds_checkpoint(workdir)):
        return
    has_one = (workdir / CONFIG_FILE).is_file()
    why = "its config.json is not one of ours" if has_one else "it has no config.json"
    raise UserError(
        f"--workdir {workdir} does not look like a run ({why}): name a new or an empty folder."
    )


@contextlib.contextmanager
def _undone_on_failure(workdir: Path) -> Iterator[None]:
    """Brings a run's files back to what they were where the block fails without a checkpoint."""
    files = [workdir / name for name in (CONFIG_FILE, CLASSES_FILE, WEIGHTS_FILE, ORIGIN_FILE)]
    former = {file: file.read_bytes() if file.is_file() else None for file in files}
    had_checkpoints = os.path.lexists(workdir / CHECKPOINTS)
    try:
        yield
    except BaseException:
        if not has_checkpoint(workdir):
            for file, data in former.items():
                if data is None:
                    file.unlink(missing_ok=True)
                elif file.read_bytes() != data:
                    replace_file(file, data=data)
            if not had_checkpoints:
                shutil.rmtree(workdir / CHECKPOINTS, ignore_errors=True)
        raise


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    """Keeps a second `train` on this machine out of the workdir while this process lives.

    Where the block fails, the lock and the folders that were made for it are removed again.
    """
    # Links are resolved, since the folder that one leads to may have been moved aside.
    made = make_folder(workdir.resolve())
    path = workdir / LOCK_FILE
    is_new = not os.path.lexists(path)
    try:
        with locks.hold(
            path,
            error=UserError,
            busy=f"Another process is training in {workdir}.",
            changed=f"Another process was changing {workdir}: repeat the command.",
        ) as (_, unlocked):
            if unlocked:
                say_unlocked(workdir, unlocked)
            try:
                yield
            except BaseException:
                if is_new:
                    path.unlink(missing_ok=True)
                raise
    except BaseException:
        remove_if_empty(made)
        raise


def _is_config(workdir: Path) -> bool:
    """Whether the content of config.json is that of our configs."""
    try:
        return is_recorded(read_file(workdir, CONFIG_FILE))
    except UserError:
        return False


def _holds_checkpoint(workdir: Path) -> bool:
    """Whether one of the numbered folders really is a checkpoint of ours."""
    places = (workdir / CHECKPOINTS).glob("*")
    return any(place.name.isdecimal() and is_checkpoint(place) for place in places)
