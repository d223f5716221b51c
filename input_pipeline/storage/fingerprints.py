"""A few numbers that tell the examples of a split from others, however they are stored."""

import math
import zlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from danet_jax.base.fingerprints import Fingerprint, agree

# Examples that are looked at, spread evenly; decoding a large one takes a tenth of a second.
_EXAMPLES = 4
# Labels that are looked at, spread evenly; one takes a hundredth of a second.
_LABELS = 32
# Parts of an image along each side whose brightness is compared.
_PARTS = 4
# JSON values: the fingerprint, and more on the labels.
Identity = dict[str, Any]


@runtime_checkable
class Examples(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> Mapping[str, Any]: ...


@runtime_checkable
class Split(Protocol):
    """Examples whose labels can be had without their images."""

    @property
    def fingerprint(self) -> Fingerprint: ...
    def __len__(self) -> int: ...
    def label_checksum(self, index: int) -> int: ...


def identity_of(split: Split, *, counted: int | None) -> Identity:
    """Returns what tells a split from others: some of its images, more of its labels.

    Args:
      split: the examples.
      counted: a number for the pixels of each class in all of them, None where they are not known.
    """
    indices = sorted(set(np.linspace(0, len(split) - 1, _LABELS).round().astype(int).tolist()))
    return {
        "num_examples": len(split),
        "fingerprint": split.fingerprint,
        "labels": [split.label_checksum(index) for index in indices],
        "class_pixels": counted,
    }


def of(examples: Examples) -> Fingerprint:
    """Returns the fingerprint of examples with "id", "image" and "label"."""
    indices = np.linspace(0, len(examples) - 1, _EXAMPLES).round().astype(int)
    return [_numbers(examples[index]) for index in sorted(set(indices.tolist()))]


def _numbers(example: Mapping[str, Any]) -> list[int | float]:
    image = np.asarray(example["image"])
    means = image.mean((0, 1), dtype=np.float64)
    numbers = [*means, _sharpness(image), *_cells(image)]
    return [
        zlib.crc32(example["id"].encode()),
        checksum(np.asarray(example["label"])),
        *(round(float(number), 2) for number in numbers),
    ]


def _sharpness(image: Shaped[np.ndarray, "h w c"]) -> float:
    """Returns a number that falls by some 15 where a blur halves the differences of neighbours."""
    row = image[:: max(1, image.shape[0] // 64)].mean(-1)
    difference = np.abs(np.diff(row, axis=1)).mean() if row.shape[1] > 1 else 0.0
    # The 4 is for flat images: how their noise is decoded says nothing.
    return 30 * math.log(4 + difference)


def _cells(image: Shaped[np.ndarray, "h w c"]) -> list[float]:
    """Returns the mean brightness of each of 4×4 parts: another one where an image is turned."""
    return [
        float(part.mean()) if part.size else 0.0
        for rows in np.array_split(image, _PARTS, axis=0)
        for part in np.array_split(rows, _PARTS, axis=1)
    ]


def checksum(array: np.ndarray) -> int:
    """Returns a number for the values of an array."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def are_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two identities are of the same examples, by all that is noted in both of them.

    The first release noted their number alone, and later ones no labels.
    """
    are_known = "fingerprint" in one and "fingerprint" in other
    if are_known and not agree(one["fingerprint"], other["fingerprint"]):
        return False
    return all(
        one[name] == other[name]
        for name in ("num_examples", "labels", "class_pixels")
        if one.get(name) is not None and other.get(name) is not None
    )
