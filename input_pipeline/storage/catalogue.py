"""Finds data sets by name, prepared or not."""

import contextlib
import difflib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from danet_jax.base.errors import DataError, NotPreparedError, unreadable
from danet_jax.base.wording import program
from danet_jax.input_pipeline.builders import DATA_SETS
from danet_jax.input_pipeline.storage import tfds_cityscapes
from danet_jax.input_pipeline.storage.prepared_files import ADVICE, check_before_tfds

FILE_FORMAT = "array_record"


def find_builder(name: str, data_dir: Path, **options: Any) -> tfds.core.DatasetBuilder:
    """Returns the builder of "NAME" or "NAME/VARIANT", with what is prepared in `data_dir`.

    Raises:
      DataError: no such data set or variant; what is in `data_dir` is unreadable.
    """
    family, _, variant = str(name).partition("/")
    if family not in DATA_SETS:
        near = difflib.get_close_matches(family, DATA_SETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise DataError(
            f"unknown data set {name!r}: {hint}Known are {', '.join(sorted(DATA_SETS))}"
        )
    builder_class = DATA_SETS[family]
    config: Any = variant or None
    known = [config.name for config in builder_class.BUILDER_CONFIGS]
    if known and variant not in known:
        raise DataError(
            f"data set {name!r}: name its variant, one of "
            + ", ".join(f"{family}/{variant}" for variant in known)
        )
    if variant and not known:
        if not getattr(builder_class, "takes_any_variant", False):
            raise DataError(f"data set {name!r}: {family!r} has no variants")
        if not re.fullmatch("[a-z0-9_]+", variant):
            raise DataError(
                f"data set {name!r}: name the variant in lower-case letters, digits and _"
            )
        config = tfds.core.BuilderConfig(name=variant)
    for version in (data_dir / name).glob("[0-9]*.[0-9]*.[0-9]*"):
        check_before_tfds(version)
    try:
        with quiet():
            return builder_class(
                data_dir=data_dir, config=config, file_format=FILE_FORMAT, **options
            )
    except Exception as error:  # The parsers of its descriptions raise exceptions of many types.
        raise unreadable(f"data set {name!r} in {data_dir}", error, ADVICE) from error


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    with quiet():
        return builder.is_prepared()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS from printing.

    It would draw its own bars, announce downloads where there are none, and warn of a limit of
    files that it has just raised.
    """
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)


def local_folder(data_dir: str | os.PathLike) -> Path:
    """Returns the absolute path of the folder of all data sets; a DataError for a URL."""
    if "://" in str(data_dir):
        raise DataError(
            f"data_dir is {data_dir}: a bucket is read through a folder that it is mounted on "
            "(gcsfuse, s3fs); give that folder"
        )
    return Path(data_dir).absolute()


def find_prepared(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """Returns the builder of a prepared data set: ours, or for Cityscapes also TFDS's.

    Raises:
      DataError: unknown data set, not prepared, or unreadable.
    """
    builder = find_builder(name, data_dir)
    if is_prepared(builder):
        return builder
    of_tfds = find_of_tfds(name, data_dir)
    if of_tfds is not None:
        return of_tfds
    raise NotPreparedError(
        f"data set {name!r} is not prepared in {data_dir}: run `{program()} prepare --config=…` "
        "with the same config, and with --source=FOLDER where the data set is made from files."
    )


def find_of_tfds(name: str, data_dir: Path) -> tfds.core.DatasetBuilder | None:
    """Returns TFDS's own builder if it prepared the data set; a DataError if unreadable."""
    if name != "cityscapes":
        return None
    with quiet():
        return tfds_cityscapes.find(data_dir)
