"""Reads Cityscapes as prepared by TFDS's own builder, with raw labelIds and other names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from danet_jax.base.errors import DataError, unreadable
from danet_jax.base.wording import program
from danet_jax.input_pipeline.builders.cityscapes import ID_MAP
from danet_jax.input_pipeline.storage.prepared_files import check_before_tfds

# This is relative to the folder of all data sets. Other variants hold coarse labels or none.
FOLDER = Path("cityscapes", "semantic_segmentation", "1.0.0")
_FILE_FORMAT = "array_record"
_LABEL_IDS = len(ID_MAP)
_TABLE = np.array([ID_MAP[id] for id in range(_LABEL_IDS)], np.uint8)


def find(data_dir: Path) -> tfds.core.DatasetBuilder | None:
    """Returns the data set that TFDS prepared in `data_dir`, None if there is none.

    Raises:
      DataError: it is unreadable, or stored as TFRecord, which has no access by index.
    """
    folder = data_dir / FOLDER
    if not (folder / "dataset_info.json").is_file():
        return None
    check_before_tfds(folder)
    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # The parsers of its descriptions raise exceptions of many types.
        raise unreadable(f"data set 'cityscapes' in {folder}", error, "prepare it again") from error
    formats = [file_format.value for file_format in builder.info.available_file_formats()]
    if _FILE_FORMAT not in formats:
        raise DataError(
            f"data set 'cityscapes' in {folder} was prepared by TFDS as {', '.join(formats)}, "
            "which has no access by index. Convert it, where tensorflow, apache-beam and "
            "mlcroissant are installed: "
            f"tfds convert_format --dataset_version_dir={folder} --out_file_format={_FILE_FORMAT}; "
            f"or prepare it with `{program()} prepare`"
        )
    # If the conversion has left both formats in the folder, the other one is the default.
    builder.info.set_file_format(_FILE_FORMAT, override=True, override_if_initialized=True)
    return builder


def split_of(split: str) -> str:
    """Returns the name in TFDS of a split or a sum of parts: "val[:10]" is "validation[:10]"."""
    parts = (part.partition("[") for part in split.split("+"))
    names = {"val": "validation"}
    return "+".join(f"{names.get(name, name)}{slash}{rest}" for name, slash, rest in parts)


class Records:
    """Examples whose parts are named as by our own builders.

    Args:
      records: the records of TFDS.
      labelled: False for the test split, whose labels say "ignored" everywhere.
    """

    def __init__(self, records: Sequence[Any], *, labelled: bool):
        self._records = records
        self._labelled = labelled

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._records[index]
        label = record["segmentation_label"] if self._labelled else b""
        return {"id": record["image_id"], "image": record["image_left"], "label": label}


def to_train_ids(label: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Converts labelIds to train ids.

    Raises:
      DataError: an id is no labelId.
    """
    if label.max() >= _LABEL_IDS:
        raise DataError(f"label id {label.max()}, but labelIds are 0 to {_LABEL_IDS - 1}")
    return _TABLE[label]
