"""Prepared data sets on disk: TFDS writes them as ArrayRecord, and reads them by index."""

import contextlib
import difflib
import fcntl
import functools
import io
import operator
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from input_pipeline import images
from input_pipeline.builders import DATA_SETS
from input_pipeline.errors import DataError
from input_pipeline.labels import IGNORE_LABEL, Labels

_FILE_FORMAT = "array_record"


def prepare(
    name: str, *, data_dir: str | os.PathLike, source: str | os.PathLike | None = None
) -> dict[str, int]:
    """Writes a data set below `data_dir`, whole or not at all, and counts its examples by split.

    A prepared data set is left as it is. One process at a time prepares a data set; a
    second one is refused.

    Args:
      name: key of DATA_SETS.
      data_dir: folder of all prepared data sets; made if missing.
      source: folder of the original files, for data sets made from files.

    Raises:
      DataError: unknown name; source not given, not needed, missing or faulty; cannot be written;
        another process prepares it.
    """
    data_dir = Path(data_dir).absolute()
    builder = _builder(name, data_dir)
    if _is_prepared(builder):
        print(
            f"{data_dir / name} was prepared before and stays as it is; to prepare it anew, delete "
            "that folder first",
            file=sys.stderr,
        )
    else:
        _check_source(name, source)
        existed = data_dir.exists()
        try:
            (data_dir / name).mkdir(parents=True, exist_ok=True)
            with _locked(data_dir / name):
                _remove_unfinished(data_dir / name)
                try:
                    _write(builder, source)
                finally:
                    _remove_unfinished(data_dir / name)
                    _remove_if_empty(data_dir / name, *([] if existed else [data_dir]))
        except OSError as error:
            raise DataError(
                f"data set {name!r} cannot be written to {data_dir}: {error.strerror or error}"
            ) from error
    return {split: info.num_examples for split, info in builder.info.splits.items()}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a data set's folder for this process; a DataError where another one holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DataError(f"another process is preparing {folder}") from None
    finally:
        os.close(descriptor)


def labels_of(name: str) -> Labels:
    """Returns the classes of a data set, prepared or not; a DataError where it is unknown."""
    _check_name(name)
    return DATA_SETS[name].labels


def _check_name(name: str) -> None:
    if name not in DATA_SETS:
        near = difflib.get_close_matches(str(name), DATA_SETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"unknown data set {name!r}: {hint}Known are {', '.join(sorted(DATA_SETS))}"
        )


def _builder(name: str, data_dir: Path) -> tfds.core.GeneratorBasedBuilder:
    _check_name(name)
    try:
        with _quiet():
            return DATA_SETS[name].builder(data_dir=data_dir, file_format=_FILE_FORMAT)
    except Exception as error:  # whatever the parsers of its descriptions raise
        raise DataError(
            f"data set {name!r} in {data_dir} is unreadable ({error}); "
            f"delete {data_dir / name} and prepare it again"
        ) from error


def _is_prepared(builder: tfds.core.GeneratorBasedBuilder) -> bool:
    with _quiet():
        return builder.is_prepared()


def _check_source(name: str, source: str | os.PathLike | None) -> None:
    wanted = DATA_SETS[name].builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    if wanted is None:
        if source is not None:
            raise DataError(
                f"data set {name!r} is made without files: leave out the source {source}"
            )
        return
    if source is None:
        raise DataError(f"data set {name!r} needs a source: {wanted}")
    if not Path(source).is_dir():
        raise DataError(f"source {source} is not a folder; data set {name!r} needs {wanted}")
    if not any(Path(source).iterdir()):
        raise DataError(f"source {source} is empty; data set {name!r} needs {wanted}")


def _write(builder: tfds.core.GeneratorBasedBuilder, source: str | os.PathLike | None) -> None:
    split_generators = builder._split_generators
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} examples"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def counted(dl_manager) -> dict[str, Iterator]:
            splits = split_generators(dl_manager)
            return {split: _track(progress, split, splits[split]) for split in splits}

        builder._split_generators = counted
        # TFDS makes a folder for downloads even where there are none.
        with _quiet(), tempfile.TemporaryDirectory() as downloads:
            builder.download_and_prepare(
                download_dir=downloads,
                download_config=tfds.download.DownloadConfig(
                    manual_dir=None if source is None else Path(source).absolute(),
                    try_download_gcs=False,
                ),
                file_format=_FILE_FORMAT,
            )


def _track(progress: Progress, split: str, generator: Iterable) -> Iterator:
    task = progress.add_task(f"Writing {split}", total=None)
    for example in generator:
        yield example
        progress.advance(task)
    done = progress.tasks[task].completed
    progress.update(task, total=done, completed=done)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # TFDS draws its own bars, announces downloads where there are none, and warns of a file limit
    # that it has just raised by itself.
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)


def _remove_unfinished(folder: Path) -> None:
    for unfinished in folder.glob(f"{tfds.core.constants.INCOMPLETE_PREFIX}*"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


class Split:
    """The examples of one split by index; made by `open_split`, opened again when unpickled."""

    def __init__(self, name: str, split: str, *, data_dir: Path, labels: Labels, records: Any):
        self.name = name
        self.split = split
        self.labels = labels
        self._data_dir = data_dir
        self._records = records

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {self.split!r}, {len(self)} examples)"

    def __reduce__(self):
        # The records are open files.
        return functools.partial(open_split, self.name, self.split, data_dir=self._data_dir), ()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: SupportsIndex) -> dict[str, str | UInt8[np.ndarray, "..."]]:
        """Example `index`: "id" str, "image" uint8 RGB [h, w, 3], "label" uint8 [h, w].

        Of an image that came without a label all pixels are IGNORE_LABEL.

        Raises:
          DataError: it does not decode, image and label differ in size, or an id is no class.
          IndexError: there is no such example.
        """
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"{self!r} has no example {position}")
        record = self._read(position)
        name = record["id"].decode()
        try:
            image = images.decode_image(record["image"])
            label = (
                images.decode_label(record["label"])
                if record["label"]
                else np.full(image.shape[:2], IGNORE_LABEL, np.uint8)
            )
            self._check(image, label)
        except DataError as error:
            raise DataError(
                f"data set {self.name!r}, split {self.split!r}, example {name!r}: {error}; "
                f"prepare the data set again from correct files"
            ) from None
        return {"id": name, "image": image, "label": label}

    def id(self, index: int) -> str:
        """The name of example `index`, without decoding its image."""
        return self._read(index)["id"].decode()

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of example `index`."""
        height, width = images.decode_image(self._read(index)["image"]).shape[:2]
        return height, width

    @property
    def has_labels(self) -> bool:
        """False where the images came without labels, as those of a server's test set."""
        return bool(self._read(0)["label"])

    def _read(self, index: int) -> dict[str, bytes]:
        try:
            record = self._records[index]
        except (RuntimeError, OSError) as error:
            problem = str(error)
        else:
            if all(isinstance(value, bytes) for value in record.values()):
                return record
            # A file cut short can also come back as records without content.
            problem = f"record {index} has no content"
        raise DataError(
            f"data set {self.name!r}, split {self.split!r} is damaged ({problem}); "
            f"delete {self._data_dir / self.name} and prepare it again"
        )

    def _check(self, image: UInt8[np.ndarray, "..."], label: UInt8[np.ndarray, "..."]) -> None:
        if image.shape[:2] != label.shape:
            (ih, iw), (lh, lw) = image.shape[:2], label.shape
            raise DataError(f"the image is {iw}x{ih}, its label {lw}x{lh}")
        wrong = (label >= self.labels.num_classes) & (label != IGNORE_LABEL)
        if wrong.any():
            ids = ", ".join(str(id) for id in np.unique(label[wrong])[:5])
            raise DataError(
                f"label ids {ids}, but the classes are 0 to {self.labels.num_classes - 1}"
            )


def open_split(name: str, split: str, *, data_dir: str | os.PathLike) -> Split:
    """Opens a prepared split for reading.

    Raises:
      DataError: unknown data set or split, not prepared, without examples, or damaged.
    """
    folder = Path(data_dir).absolute()
    builder = _builder(name, folder)
    if not _is_prepared(builder):
        raise DataError(
            f"data set {name!r} is not prepared in {data_dir}: "
            "run `python main.py prepare --config=…` with the same config, and with "
            "--source=FOLDER where the data set is made from files"
        )
    splits = builder.info.splits
    if split not in splits:
        raise DataError(
            f"data set {name!r} has no split {split!r}; it has {', '.join(sorted(splits))}"
        )
    if not splits[split].num_examples:
        raise DataError(f"split {split!r} of data set {name!r} has no examples")
    for file in splits[split].filepaths:
        if not file.exists():
            raise DataError(
                f"data set {name!r} is damaged: {file} is missing; "
                f"delete {folder / name} and prepare it again"
            )
    skip = tfds.decode.SkipDecoding()
    records = builder.as_data_source(split, decoders={"image": skip, "label": skip})
    return Split(name, split, data_dir=folder, labels=DATA_SETS[name].labels, records=records)
