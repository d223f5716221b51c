"""Reads prepared data sets by index."""

import collections
import contextlib
import functools
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Int64, UInt8

from danet_jax.base.errors import DataError, unreadable
from danet_jax.base.json_files import is_there, read_json
from danet_jax.base.wording import counted
from danet_jax.input_pipeline.builders import DATA_SETS
from danet_jax.input_pipeline.builders.splits import parts_of
from danet_jax.input_pipeline.checking import summary
from danet_jax.input_pipeline.images import codec
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels
from danet_jax.input_pipeline.storage import (
    catalogue,
    fingerprints,
    prepared_files,
    ranges,
    tfds_cityscapes,
)
from danet_jax.input_pipeline.storage.fingerprints import Fingerprint
from danet_jax.input_pipeline.storage.ranges import Ranges


def labels_of(name: str, *, data_dir: str | os.PathLike) -> Labels:
    """Returns the classes of a data set, prepared or not.

    Raises:
      DataError: it is unknown, or its classes are its source's own and it is not prepared.
    """
    return classes_of(name, catalogue.find_builder(name, catalogue.local_folder(data_dir)))


def classes_of(name: str, builder: tfds.core.DatasetBuilder) -> Labels:
    """Returns the classes that are stored with a data set, or those of its builder."""
    metadata_file = Path(builder.data_path) / "metadata.json"
    if is_there(metadata_file):
        values = read_json(
            metadata_file, prepared_files.LABELS, error=DataError, advice=prepared_files.ADVICE
        )
        try:
            return Labels.from_json(values)
        except DataError as error:
            raise DataError(
                f"{metadata_file} cannot be read: {error}. {prepared_files.ADVICE}"
            ) from None
    labels = getattr(builder, "labels", None)
    if labels is None:
        raise DataError(f"data set {name!r} is not prepared, and its classes are only known then")
    return labels


class Split:
    """The examples of one split by index; made by `open_split`, reopened after unpickling."""

    def __init__(
        self,
        name: str,
        split: str,
        *,
        data_dir: Path,
        labels: Labels,
        records: Any,
        folder: Path,
        ranges: Ranges = (),
        parts: Sequence[str] = (),
        to_train_ids: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self.name = name
        self.split = split
        self.labels = labels
        self._data_dir = data_dir
        self._records = records
        # The folder holds the records, and the files that describe them.
        self.folder = folder
        self._ranges = ranges
        # The names of the whole splits that it takes examples from.
        self._parts = parts
        self._to_train_ids = to_train_ids

    def __repr__(self) -> str:
        return f"Split({self.name!r}, {self.split!r}, {counted(len(self), 'example')})"

    def __reduce__(self):
        # The records are open files, which cannot be pickled.
        return functools.partial(open_split, self.name, self.split, data_dir=self._data_dir), ()

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: SupportsIndex) -> dict[str, str | UInt8[np.ndarray, "..."]]:
        """Returns "id" str, "image" uint8 RGB [h, w, 3] and "label" uint8 [h, w] of an example.

        If the image came without a label, all pixels are IGNORE_LABEL.

        Raises:
          DataError: it does not decode, image and label differ in size, or an id is no class.
          IndexError: there is no such example.
        """
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"{self!r} has no example {position}")
        record = self._read(position)
        with self._naming(record):
            image = codec.decode_image(record["image"])
            label = self._label(record)
            if label is None:
                label = np.full(image.shape[:2], IGNORE_LABEL, np.uint8)
            if image.shape[:2] != label.shape:
                (ih, iw), (lh, lw) = image.shape[:2], label.shape
                raise DataError(f"the image is {iw}x{ih}, its label {lw}x{lh}")
        return {"id": _text(record["id"]), "image": image, "label": label}

    def class_pixels(self, index: int) -> Int64[np.ndarray, " classes"]:
        """Counts the pixels of each class in example `index`, without decoding its image.

        Raises:
          DataError: the label does not decode, or an id is no class.
        """
        record = self._read(index)
        with self._naming(record):
            label = self._label(record)
        if label is None:
            return np.zeros(self.labels.num_classes, np.int64)
        return codec.count_ids(label)[: self.labels.num_classes]

    def id(self, index: int) -> str:
        """Returns the name of example `index`, without decoding its image."""
        return _text(self._read(index)["id"])

    def size(self, index: int) -> tuple[int, int]:
        """Returns height and width of example `index`."""
        height, width = codec.decode_image(self._read(index)["image"]).shape[:2]
        return height, width

    def sizes(self) -> collections.Counter[tuple[int, int]]:
        """Counts the images of each (height, width) in the whole splits that this is part of.

        The counts come from the preparation. If they are missing or unreadable, only the size of
        the first image is returned.
        """
        stored = None
        with contextlib.suppress(DataError):
            stored = summary.read(self.folder)
        splits = stored.splits if stored else {}
        counts: collections.Counter[tuple[int, int]] = collections.Counter()
        for part in set(parts_of(self.split)) & splits.keys():
            for size, count in splits[part].sizes.items():
                width, _, height = size.partition("x")
                counts[int(height), int(width)] += count
        return counts or collections.Counter([self.size(0)])

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """What tells these examples from others, in every form in which they may be stored."""
        return fingerprints.of(self)

    @functools.cached_property
    def identity(self) -> fingerprints.Identity:
        """What a run notes of its examples, to go on with the same."""
        return fingerprints.identity_of(self, counted=self._counted_pixels())

    def is_same(self, identity: Mapping[str, Any]) -> bool:
        """Whether an `identity` is that of these examples, as far as it says."""
        return fingerprints.are_same(identity, self.identity)

    def _counted_pixels(self) -> int | None:
        """A number for the pixels of each class as the preparation counted them, if it did."""
        stored = None
        with contextlib.suppress(DataError):
            stored = summary.read(self.folder)
        if stored is None:
            return None
        counts = [
            stored.splits[part].class_pixels
            for part in sorted(set(parts_of(self.split)) & stored.splits.keys())
        ]
        return fingerprints.checksum(np.concatenate(counts)) if counts else None

    def label_checksum(self, index: int) -> int:
        """Returns a number that tells the label of example `index` from others.

        Its image is not decoded.
        """
        record = self._read(index)
        with self._naming(record):
            label = self._label(record)
        return 0 if label is None else fingerprints.checksum(label)

    def shared_examples(self, other: "Split") -> int:
        """Counts the examples that this split of a data set has in common with another one."""
        return ranges.shared(self._ranges, other._ranges)

    @property
    def repeated_examples(self) -> int:
        """How many times an example stands in the split again, as in "val+val"."""
        return ranges.repeated(self._ranges)

    @property
    def has_labels(self) -> bool:
        """False if the images came without labels, as those of a server's test set.

        Raises:
          DataError: it is a sum of splits with labels and splits without, or damaged.
        """
        self.refuse_mixture()
        # Preparation labels all images of a split, or none.
        return bool(self._read(0)["label"])

    def refuse_mixture(self) -> None:
        """Raises a DataError for a sum of splits with labels and splits without."""
        if len(self._parts) < 2:
            return
        kinds: dict[bool, list[str]] = {True: [], False: []}
        for part in self._parts:
            opened = open_split(self.name, part, data_dir=self._data_dir)
            kinds[opened.has_labels].append(part)
        labelled, others = kinds[True], kinds[False]
        if labelled and others:
            raise DataError(
                f"split {self.split!r} of data set {self.name!r} mixes images with labels "
                f"({', '.join(labelled)}) and images that came without any ({', '.join(others)}), "
                "from which nothing is learned, and which no score counts: ask for "
                f"{'+'.join(labelled)!r} or {'+'.join(others)!r}"
            )

    def _read(self, index: int) -> dict[str, bytes]:
        try:
            record = self._records[index]
        except (RuntimeError, OSError) as error:
            problem: Exception = error
        else:
            if all(isinstance(value, bytes) for value in record.values()):
                return record
            # A truncated file may also return records without content.
            problem = RuntimeError(f"record {index} has no content")
        what = f"data set {self.name!r}, split {self.split!r}"
        advice = f"move {self.folder} away and prepare it again"
        raise unreadable(what, problem, advice) from problem

    @contextlib.contextmanager
    def _naming(self, record: dict[str, bytes]) -> Iterator[None]:
        """Adds to a DataError which example it is about."""
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
        label = codec.decode_label(record["label"])
        if self._to_train_ids is not None:
            label = self._to_train_ids(label)
        classes = self.labels.num_classes
        # This takes a tenth of the time of comparing NumPy arrays.
        wrong = cv2.inRange(label, classes, IGNORE_LABEL - 1)  # type: ignore[call-overload]
        if cv2.countNonZero(wrong):
            ids = ", ".join(str(id) for id in np.unique(label[wrong > 0])[:5])
            raise DataError(f"label ids {ids}, but the classes are 0 to {classes - 1}")
        return label


def _text(id: bytes) -> str:
    """Decodes an id, even one that is not valid UTF-8."""
    return id.decode(errors="backslashreplace")


def open_split(name: str, split: str, *, data_dir: str | os.PathLike) -> Split:
    """Opens a prepared split, or parts and sums: "train[:100]", "train+train_extra".

    Raises:
      DataError: unknown data set or split, not prepared, without examples, or damaged.
    """
    folder = catalogue.local_folder(data_dir)
    builder = catalogue.find_prepared(name, folder)
    labels = classes_of(name, catalogue.find_builder(name, folder))
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
                f"move {builder.data_path} away and prepare it again"
            )
    skip = tfds.decode.SkipDecoding()
    features = builder.info.features.items()
    decoders = {key: skip for key, value in features if isinstance(value, tfds.features.Image)}
    records = builder.as_data_source(instruction, decoders=decoders)
    counts = {name: info.num_examples for name, info in splits.items()}
    selected = ranges.of(instruction, counts)
    parts = [
        part for part, (_, start, end) in zip(parts_of(split), selected, strict=True) if end > start
    ]
    to_train_ids = None
    if not is_ours:
        records = tfds_cityscapes.Records(records, labelled={*parts} != {"test"})
        to_train_ids = tfds_cityscapes.to_train_ids
    return Split(
        name,
        split,
        data_dir=folder,
        labels=labels,
        records=records,
        folder=Path(builder.data_path),
        ranges=selected,
        parts=tuple(dict.fromkeys(parts)),
        to_train_ids=to_train_ids,
    )
