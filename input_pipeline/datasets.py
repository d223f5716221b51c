"""Prepared data sets on disk, read by index."""

import collections
import contextlib
import difflib
import functools
import io
import json
import operator
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, SupportsIndex

import cv2
import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from jaxtyping import Int64, UInt8

from input_pipeline import images, survey, tfds_cityscapes
from input_pipeline.builders import DATA_SETS
from input_pipeline.errors import DataError
from input_pipeline.labels import IGNORE_LABEL, Labels

FILE_FORMAT = "array_record"


def find_builder(name: str, data_dir: Path, **options: Any) -> tfds.core.DatasetBuilder:
    """The builder of "NAME" or "NAME/VARIANT", with what is prepared in `data_dir`.

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
    made = DATA_SETS[family]
    config: Any = variant or None
    known = [config.name for config in made.BUILDER_CONFIGS]
    if known and variant not in known:
        raise DataError(
            f"data set {name!r}: name its variant, one of "
            + ", ".join(f"{family}/{variant}" for variant in known)
        )
    if variant and not known:
        if not getattr(made, "takes_any_variant", False):
            raise DataError(f"data set {name!r}: {family!r} has no variants")
        if not re.fullmatch("[a-z0-9_]+", variant):
            raise DataError(
                f"data set {name!r}: name the variant in lower-case letters, digits and _"
            )
        config = tfds.core.BuilderConfig(name=variant)
    try:
        with quiet():
            return made(data_dir=data_dir, config=config, file_format=FILE_FORMAT, **options)
    except Exception as error:  # whatever the parsers of its descriptions raise
        raise DataError(
            f"data set {name!r} in {data_dir} is unreadable ({error}); "
            f"delete its folder in {data_dir / name} and prepare it again"
        ) from error


def is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    with quiet():
        return builder.is_prepared()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps TFDS from drawing its own bars, announcing downloads where there are none, and warning
    of a file limit that it has just raised by itself."""
    level = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)


def local_folder(data_dir: str | os.PathLike) -> Path:
    """The folder of all prepared data sets, from the root; a DataError for a URL."""
    if "://" in str(data_dir):
        raise DataError(
            f"data_dir is {data_dir}: a bucket is read through a folder that it is mounted on "
            "(gcsfuse, s3fs); give that folder"
        )
    return Path(data_dir).absolute()


def labels_of(name: str, *, data_dir: str | os.PathLike) -> Labels:
    """The classes of a data set, prepared or not.

    Raises:
      DataError: it is unknown, or its classes are its source's own and it is not prepared.
    """
    return _labels(name, find_builder(name, local_folder(data_dir)))


def _labels(name: str, builder: tfds.core.DatasetBuilder) -> Labels:
    noted = Path(builder.data_path) / "metadata.json"
    if noted.is_file():
        try:
            return Labels.from_json(json.loads(noted.read_text()))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{noted} is damaged ({error}); delete {builder.data_path} and prepare it again"
            ) from None
    labels = getattr(builder, "labels", None)
    if labels is None:
        raise DataError(f"data set {name!r} is not prepared, and its classes are not known before")
    return labels


class Split:
    """The examples of one split by index; made by `open_split`, opened again when unpickled."""

    def __init__(
        self,
        name: str,
        split: str,
        *,
        data_dir: Path,
        labels: Labels,
        records: Any,
        folder: Path,
        to_train_ids: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self.name = name
        self.split = split
        self.labels = labels
        self._data_dir = data_dir
        self._records = records
        # Where the records lie, and what else is known of them.
        self.folder = folder
        self._to_train_ids = to_train_ids

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
        with self._naming(record):
            image = images.decode_image(record["image"])
            label = self._label(record)
            if label is None:
                label = np.full(image.shape[:2], IGNORE_LABEL, np.uint8)
            if image.shape[:2] != label.shape:
                (ih, iw), (lh, lw) = image.shape[:2], label.shape
                raise DataError(f"the image is {iw}x{ih}, its label {lw}x{lh}")
        return {"id": record["id"].decode(), "image": image, "label": label}

    def class_pixels(self, index: int) -> Int64[np.ndarray, " classes"]:
        """Pixels of each class in example `index`, without decoding its image.

        Raises:
          DataError: the label does not decode, or an id is no class.
        """
        record = self._read(index)
        with self._naming(record):
            label = self._label(record)
        if label is None:
            return np.zeros(self.labels.num_classes, np.int64)
        return images.count_ids(label)[: self.labels.num_classes]

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
            f"delete {self.folder} and prepare it again"
        )

    @contextlib.contextmanager
    def _naming(self, record: dict[str, bytes]) -> Iterator[None]:
        """Says of which example a DataError is."""
        try:
            yield
        except DataError as error:
            raise DataError(
                f"data set {self.name!r}, split {self.split!r}, example {record['id'].decode()!r}: "
                f"{error}; prepare the data set again from correct files"
            ) from None

    def _label(self, record: dict[str, bytes]) -> UInt8[np.ndarray, "h w"] | None:
        if not record["label"]:
            return None
        label = images.decode_label(record["label"])
        if self._to_train_ids is not None:
            label = self._to_train_ids(label)
        classes = self.labels.num_classes
        # A tenth of the time of comparing arrays.
        wrong = cv2.inRange(label, classes, IGNORE_LABEL - 1)  # type: ignore[call-overload]
        if cv2.countNonZero(wrong):
            ids = ", ".join(str(id) for id in np.unique(label[wrong > 0])[:5])
            raise DataError(f"label ids {ids}, but the classes are 0 to {classes - 1}")
        return label


def open_split(name: str, split: str, *, data_dir: str | os.PathLike) -> Split:
    """Opens a prepared split for reading; also parts and sums, "train[:100]", "train+train_extra".

    Raises:
      DataError: unknown data set or split, not prepared, without examples, or damaged.
    """
    folder = local_folder(data_dir)
    builder = find_prepared(name, folder)
    labels = _labels(name, find_builder(name, folder))
    is_ours = isinstance(builder, DATA_SETS[name.partition("/")[0]])
    instruction = split if is_ours else tfds_cityscapes.split_of(split)
    splits = builder.info.splits
    for part in parts_of(instruction):
        if part not in splits:
            raise DataError(
                f"data set {name!r} has no split {part!r}; it has {', '.join(sorted(splits))}"
            )
    try:
        chosen = splits[instruction]
    except ValueError as error:
        raise DataError(f"data set {name!r}, split {split!r}: {error}") from None
    if not chosen.num_examples:
        raise DataError(f"split {split!r} of data set {name!r} has no examples")
    for file in chosen.filepaths:
        if not file.exists():
            raise DataError(
                f"data set {name!r} is damaged: {file} is missing; "
                f"delete {builder.data_path} and prepare it again"
            )
    skip = tfds.decode.SkipDecoding()
    features = builder.info.features.items()
    decoders = {key: skip for key, value in features if isinstance(value, tfds.features.Image)}
    records = builder.as_data_source(instruction, decoders=decoders)
    place = Path(builder.data_path)
    if is_ours:
        return Split(name, split, data_dir=folder, labels=labels, records=records, folder=place)
    return Split(
        name,
        split,
        data_dir=folder,
        labels=labels,
        folder=place,
        records=tfds_cityscapes.Records(records, labelled=not instruction.startswith("test")),
        to_train_ids=tfds_cityscapes.to_train_ids,
    )


def parts_of(split: str) -> list[str]:
    """The splits in "train[:100]+train_extra"."""
    return [part.partition("[")[0] for part in split.split("+")]


def find_prepared(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """The builder of a prepared data set: our own, or else TFDS's of Cityscapes.

    Raises:
      DataError: unknown data set, not prepared, or unreadable.
    """
    builder = find_builder(name, data_dir)
    if is_prepared(builder):
        return builder
    found = find_of_tfds(name, data_dir)
    if found is not None:
        return found
    raise DataError(
        f"data set {name!r} is not prepared in {data_dir}: "
        "run `python main.py prepare --config=…` with the same config, and with "
        "--source=FOLDER where the data set is made from files"
    )


def find_of_tfds(name: str, data_dir: Path) -> tfds.core.DatasetBuilder | None:
    """What TFDS's own builder prepared of a data set, if it is there; a DataError if unreadable."""
    if name != "cityscapes":
        return None
    with quiet():
        return tfds_cityscapes.find(data_dir)


def survey_of(name: str, *, data_dir: str | os.PathLike) -> survey.Summary:
    """What is in a prepared data set: counted when it was prepared, or from its labels now.

    Raises:
      DataError: it is not prepared, or damaged.
    """
    builder = find_prepared(name, local_folder(data_dir))
    kept = survey.read(Path(builder.data_path))
    if kept is not None:
        return kept
    splits = {}
    for split in builder.info.splits:
        opened = open_split(name, split, data_dir=data_dir)
        classes = opened.labels.num_classes
        pixels, present = (np.zeros(256, np.int64) for _ in range(2))
        sizes: collections.Counter[str] = collections.Counter()
        for index in range(len(opened)):
            label = np.asarray(opened[index]["label"])
            counts = np.bincount(label.ravel(), minlength=256)
            pixels += counts
            present += counts > 0
            sizes[f"{label.shape[1]}x{label.shape[0]}"] += 1
        splits[split] = survey.SplitSummary(
            examples=len(opened),
            class_pixels=pixels[:classes],
            images_with_class=present[:classes],
            ignored_pixels=int(pixels[IGNORE_LABEL]),
            sizes=dict(sizes.most_common()),
        )
    return survey.Summary(splits, [])
