"""What builders share: the record's features, the check of all files before any is written."""

import collections
import dataclasses
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image
from rich.console import Console
from rich.progress import track

from input_pipeline.errors import DataError

MAX_LISTED = 5


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file, None where nobody has labels."""

    id: str
    image: Path
    label: Path | None


def info(builder: tfds.core.DatasetBuilder) -> tfds.core.DatasetInfo:
    """What TFDS notes of every data set: PNG or JPEG bytes, a PNG of train ids, a name."""
    return tfds.core.DatasetInfo(
        builder=builder,
        description=builder.__doc__,
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "label": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            }
        ),
        # Records stay in the order in which they are found.
        disable_shuffling=True,
    )


def encode_label(label: UInt8[np.ndarray, "h w"]) -> bytes:
    """Train ids as PNG bytes: TFDS would need TensorFlow to encode an array."""
    return cv2.imencode(".png", label)[1].tobytes()


def examples(pairs: Sequence[Pair], id_map: Mapping[int, int]) -> Iterator[tuple[int, dict]]:
    """Keys and records of checked pairs: the image's own bytes, the label in train ids.

    An image without a label has no bytes of one.
    """
    table = _table(id_map).astype(np.uint8)
    for index, pair in enumerate(pairs):
        label = b""
        if pair.label is not None:
            label = encode_label(table[_open_label(pair.label)])
        yield index, {"id": pair.id, "image": pair.image.read_bytes(), "label": label}


def check_pairs(pairs: Sequence[Pair], id_map: Mapping[int, int], root: Path) -> list[str]:
    """Reads every file of every pair; returns a sentence for each that cannot be used.

    Args:
      pairs: what would be written.
      id_map: raw label id to train id (255 for ignored); other ids are errors.
      root: the source folder, which file names are given relative to.
    """
    table = _table(id_map)
    with futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda pair: _check_pair(pair, table, root), pairs)
        console = Console(stderr=True)
        steps = track(
            found, "Checking files", len(pairs), console=console, disable=not console.is_terminal
        )
        return [problem for problems in steps for problem in problems]


def raise_if_any(problems: Sequence[str], name: str, root: Path) -> None:
    """Raises one DataError that counts all problems and shows the first of them."""
    if not problems:
        return
    lines = [f"  {problem}" for problem in problems[:MAX_LISTED]]
    if len(problems) > MAX_LISTED:
        lines.append(f"  and {len(problems) - MAX_LISTED} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise DataError(
        f"{name}: {count} in {root}; nothing was written.\n"
        + "\n".join(lines)
        + "\nCorrect or fetch these files again, then repeat the prepare command."
    )


def repeated(ids: Sequence[str]) -> list[str]:
    """The ids that occur more than once, sorted."""
    return sorted(id for id, count in collections.Counter(ids).items() if count > 1)


def _table(id_map: Mapping[int, int]) -> np.ndarray:
    table = np.full(256, -1, np.int16)
    table[list(id_map)] = list(id_map.values())
    return table


def _check_pair(pair: Pair, table: np.ndarray, root: Path) -> list[str]:
    problems = []
    sizes = []
    for file, check in ((pair.image, _check_image), (pair.label, _check_label)):
        if file is None:
            continue
        shown = file.relative_to(root)
        if not file.is_file():
            problems.append(f"{shown}: missing")
            continue
        try:
            sizes.append(check(file, table))
        except DataError as error:
            problems.append(f"{shown}: {error}")
    if pair.label and len(sizes) == 2 and sizes[0] != sizes[1]:
        (iw, ih), (lw, lh) = sizes
        problems.append(f"{pair.label.relative_to(root)}: {lw}x{lh}, but its image is {iw}x{ih}")
    return problems


def _check_image(file: Path, table: np.ndarray) -> tuple[int, int]:
    del table
    image = _open(file)
    if image.mode != "RGB":
        raise DataError(f"mode {image.mode}; images are 8-bit RGB")
    return image.size


def _check_label(file: Path, table: np.ndarray) -> tuple[int, int]:
    label = _open_label(file)
    ids = np.flatnonzero(np.bincount(label.ravel(), minlength=256))
    unknown = ids[table[ids] < 0]
    if unknown.size:
        shown = ", ".join(str(id) for id in unknown[:MAX_LISTED])
        hint = " (already converted?)" if 255 in unknown else ""
        known = np.flatnonzero(table >= 0)
        raise DataError(f"label ids {shown}{hint}; known are {_ranges(known.tolist())}")
    return label.shape[1], label.shape[0]


def _open_label(file: Path) -> UInt8[np.ndarray, "h w"]:
    image = _open(file)
    if image.mode not in ("L", "P"):
        raise DataError(f"mode {image.mode}; labels are one 8-bit channel of ids")
    return np.asarray(image)


def _open(file: Path) -> Image.Image:
    # Pillow, not OpenCV, which fills up torn files without a word.
    data = file.read_bytes()
    if not data:
        raise DataError("empty file")
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception as error:
        raise DataError(f"does not decode ({error})") from None
    return image


def _ranges(ids: list[int]) -> str:
    """0, 1, 2, 255 → "0-2, 255"."""
    starts = [id for id in ids if id - 1 not in ids]
    ends = [id for id in ids if id + 1 not in ids]
    return ", ".join(
        str(start) if start == end else f"{start}-{end}"
        for start, end in zip(starts, ends, strict=True)
    )
