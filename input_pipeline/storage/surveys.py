"""What a prepared data set holds, as counted when it was prepared or now."""

import collections
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from danet_jax.base.errors import DataError
from danet_jax.base.texts import one_line
from danet_jax.base.wording import counted
from danet_jax.input_pipeline.builders.splits import parts_of
from danet_jax.input_pipeline.checking import diagnosis, summary
from danet_jax.input_pipeline.labels import IGNORE_LABEL
from danet_jax.input_pipeline.storage import catalogue
from danet_jax.input_pipeline.storage.datasets import classes_of, open_split


def doubts_on_labels(name: str, splits: Sequence[str], *, data_dir: str | os.PathLike) -> list[str]:
    """Returns a sentence on each of these prepared splits that is hardly labelled, or not at all.

    Raises:
      DataError: it is not prepared, or damaged.
    """
    builder = catalogue.find_prepared(name, catalogue.local_folder(data_dir))
    stored = summary.read(Path(builder.data_path))
    parts = dict.fromkeys(part for split in splits for part in parts_of(split))
    known = {} if stored is None else stored.splits
    return [
        doubt
        for part in parts
        if part in known
        for doubt in diagnosis.doubt_labels(
            part, known[part].class_pixels, known[part].ignored_pixels
        )
    ]


def survey_of(name: str, *, data_dir: str | os.PathLike) -> summary.Summary:
    """Returns the counts of a prepared data set, from its preparation or from its labels now.

    Raises:
      DataError: it is not prepared, or damaged.
    """
    builder = catalogue.find_prepared(name, catalogue.local_folder(data_dir))
    folder = Path(builder.data_path)
    stored = summary.read(folder)
    if stored is not None:
        classes = classes_of(name, builder).num_classes
        for split, content in stored.splits.items():
            if len(content.class_pixels) != classes:
                raise DataError(
                    f"{folder / summary.FILE} cannot be read: "
                    f"splits.{one_line(split)}.class_pixels has {len(content.class_pixels)} "
                    f"entries for {counted(classes, 'class', 'classes')}. {summary.ADVICE}"
                )
        return stored
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
        splits[split] = summary.SplitSummary(
            examples=len(opened),
            class_pixels=pixels[:classes],
            images_with_class=present[:classes],
            ignored_pixels=int(pixels[IGNORE_LABEL]),
            sizes=dict(sizes.most_common()),
        )
    return summary.Summary(splits, [])
