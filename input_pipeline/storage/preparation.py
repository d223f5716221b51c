"""Prepares data sets from source files: TFDS writes them as ArrayRecord, whole or not at all."""

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import tensorflow_datasets as tfds
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from danet_jax.base import locks
from danet_jax.base.errors import DataError, system_failure, unreadable_file
from danet_jax.base.files import make_folder, remove_if_empty
from danet_jax.base.texts import show
from danet_jax.input_pipeline.builders import shards
from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.builders.splits import check_form, parts_of
from danet_jax.input_pipeline.checking.verification import STORAGES
from danet_jax.input_pipeline.storage.catalogue import (
    FILE_FORMAT,
    find_builder,
    find_of_tfds,
    is_prepared,
    local_folder,
    quiet,
)
from danet_jax.input_pipeline.storage.datasets import open_split

_LOCK_FILE = ".lock"
# TFDS and this package write such files into the folder of a data set.
_WRITTEN = re.compile(r"\.array_record|(dataset_info|features|metadata|survey)\.json$")


def prepare(
    name: str,
    *,
    data_dir: str | os.PathLike,
    source: str | os.PathLike | None = None,
    storage: str = "original",
    splits: Sequence[str] = (),
) -> dict[str, int]:
    """Writes a data set below `data_dir`, whole or not at all, and counts its examples by split.

    A prepared data set is left as it is. Shards that an interrupted preparation has verified and
    written are reused by the next. Only one process at a time may prepare a data set; a second one
    is refused.

    Args:
      name: key of DATA_SETS, with a variant behind a slash where it has some.
      data_dir: folder of all prepared data sets; made if missing.
      source: folder of the original files, for data sets made from files.
      splits: splits that are needed, such as "train+sbd"; a source that lacks one is refused.
      storage: "original" keeps the images' bytes; "fast" stores images that are no JPEGs as pixels,
        as exact, faster to read and larger.

    Raises:
      DataError: unknown name; source not given, not needed, missing or faulty; cannot be written;
        another process prepares it.
    """
    data_dir = local_folder(data_dir)
    if storage not in STORAGES:
        raise DataError(f"storage {storage!r}: give one of {', '.join(STORAGES)}")
    for split in splits:
        check_form(split)
    builder = find_builder(name, data_dir)
    if source is None and not is_prepared(builder):
        builder = find_of_tfds(name, data_dir) or builder
    if is_prepared(builder):
        unread = "" if source is None else f"; {source} was not read"
        show(
            f"{builder.data_path} was prepared before and stays as it is{unread}. To prepare it "
            "again, move that folder away, or choose another config.data.data_dir",
            file=sys.stderr,
        )
    else:
        _check_source(name, builder, source)
        made_folders: list[Path] = []
        try:
            made_folders = make_folder(data_dir / name)
            with _locked(data_dir / name):
                _check_place(name, data_dir)
                _remove_unfinished(data_dir / name)
                try:
                    builder = _write(name, data_dir, source, storage, splits)
                finally:
                    _remove_unfinished(data_dir / name)
        except (OSError, RuntimeError) as error:
            failure = system_failure(error)
            if failure is None:
                raise
            if source is not None and _lies_in(getattr(error, "filename", None), source):
                raise DataError(
                    f"source {source} cannot be read: {failure}; fix that, and repeat the command"
                ) from error
            raise DataError(
                f"data set {name!r} cannot be prepared in {data_dir}: {failure}; fix that, or "
                "choose another config.data.data_dir, and repeat the command"
            ) from error
        finally:
            # An empty folder that was there before stays: it belongs to a person.
            remove_if_empty(made_folders)
    for split in splits:
        # This reports what is missing.
        open_split(name, split, data_dir=data_dir)
    return {split: info.num_examples for split, info in builder.info.splits.items()}


def _lies_in(file: object, folder: str | os.PathLike) -> bool:
    return isinstance(file, str | Path) and Path(file).is_relative_to(Path(folder).absolute())


def _check_place(name: str, data_dir: Path) -> None:
    builder = find_builder(name, data_dir)
    # TFDS takes any folder of this name for the prepared data set, and would write nothing.
    if os.path.lexists(builder.data_path) and not is_prepared(builder):
        raise DataError(
            f"{builder.data_path} is in the way: it holds no prepared data set. Move it away, or "
            "choose another config.data.data_dir"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a data set's folder for this process; a DataError where another one holds it."""
    path = folder / _LOCK_FILE
    with locks.hold(
        path,
        error=DataError,
        busy=f"another process is preparing {folder}: wait until it has ended",
        changed=f"another process was preparing {folder}: repeat the command",
    ) as (file, unlocked):
        if unlocked:
            show(
                f"{folder} is on a file system without locks ({unlocked}), so a second prepare of "
                "the same data set at the same time would not be noticed",
                file=sys.stderr,
            )
        try:
            yield
        finally:
            # A lock file of ours is empty; one that holds anything is somebody else's.
            if not os.fstat(file.fileno()).st_size:
                path.unlink(missing_ok=True)


def _check_source(
    name: str, builder: tfds.core.DatasetBuilder, source: str | os.PathLike | None
) -> None:
    wanted = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if wanted is None:
        if source is not None:
            raise DataError(
                f"data set {name!r} is made without files: leave out the source {source}"
            )
        return
    if source is None:
        raise DataError(f"data set {name!r} needs a source: {wanted}")
    try:
        is_folder = Path(source).is_dir()
        is_empty = is_folder and not any(Path(source).iterdir())
    except OSError as error:
        raise DataError(f"source {source} {unreadable_file(error, needed='u+rx')}") from error
    if not is_folder:
        raise DataError(f"source {source} is not a folder; data set {name!r} needs {wanted}")
    if is_empty:
        raise DataError(f"source {source} is empty; data set {name!r} needs {wanted}")


def _write(
    name: str,
    data_dir: Path,
    source: str | os.PathLike | None,
    storage: str,
    splits: Sequence[str],
) -> tfds.core.DatasetBuilder:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        builder = find_builder(name, data_dir)
        if isinstance(builder, FilesBuilder):
            task = progress.add_task(f"Verifying and writing {name}", total=None)

            def start(total: int) -> Callable[[int], None]:
                progress.update(task, total=total)
                return lambda count: progress.advance(task, count)

            builder = find_builder(
                name, data_dir, storage=storage, splits=splits, start_progress=start
            )
        else:
            _track_splits(name, builder, progress, splits)
        # TFDS makes a folder for downloads even if there are none.
        with quiet(), tempfile.TemporaryDirectory() as downloads:
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=None if source is None else Path(source).absolute(),
                    try_download_gcs=False,
                ),
                file_format=FILE_FORMAT,
            )
        if isinstance(builder, FilesBuilder):
            shards.remove_shards(builder.partial_folder)
    return builder


def _track_splits(
    name: str,
    builder: tfds.core.GeneratorBasedBuilder,
    progress: Progress,
    asked: Sequence[str],
) -> None:
    split_generators = builder._split_generators

    def track(split: str, generator: Iterable) -> Iterator:
        task = progress.add_task(f"Writing {split}", total=None)
        for example in generator:
            yield example
            progress.advance(task)

    def tracked(dl_manager) -> dict[str, Iterator]:
        splits = split_generators(dl_manager)
        for part in (part for split in asked for part in parts_of(split)):
            if part not in splits:
                raise DataError(
                    f"data set {name!r} has no split {part!r}; it has {', '.join(sorted(splits))}"
                )
        return {split: track(split, splits[split]) for split in splits}

    builder._split_generators = tracked


def _remove_unfinished(folder: Path) -> None:
    """Removes the temporary folders of killed preparations, recognised by name and content.

    No other process works in them while this one holds the lock of the folder.
    """
    for unfinished in folder.iterdir():
        if _is_unfinished(unfinished):
            shutil.rmtree(unfinished, ignore_errors=True)


def _is_unfinished(folder: Path) -> bool:
    # `tfds.core.utils.incomplete_dir` makes the name.
    prefix = re.escape(tfds.core.constants.INCOMPLETE_PREFIX)
    if not re.fullmatch(prefix + r"[A-Z0-9]{6}_\d+\.\d+\.\d+", folder.name):
        return False
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(
        _WRITTEN.search(path.name) and path.is_file() and not path.is_symlink()
        for path in folder.iterdir()
    )
