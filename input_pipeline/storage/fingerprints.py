"""A few numbers that tell the examples of a split from others, however they are stored."""

import zlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

# Examples that are looked at, spread evenly; decoding a large one takes a tenth of a second.
_EXAMPLES = 4
# By so much the mean of a colour may differ: a JPEG is not decoded alike by all libraries.
_TOLERANCE = 2.0

# Each example gives checksums of its id and its label, and the means of red, green and blue.
Fingerprint = list[list[int | float]]


@runtime_checkable
class Examples(Protocol):
    """Examples by index."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> Mapping[str, Any]: ...


def of(examples: Examples) -> Fingerprint:
    """Returns the fingerprint of examples with "id", "image" and "label"."""
    indices = np.linspace(0, len(examples) - 1, _EXAMPLES).round().astype(int)
    return [_numbers(examples[index]) for index in sorted(set(indices.tolist()))]


def _numbers(example: Mapping[str, Any]) -> list[int | float]:
    means = np.asarray(example["image"]).mean((0, 1), dtype=np.float64)
    return [
        zlib.crc32(example["id"].encode()),
        zlib.crc32(np.ascontiguousarray(example["label"]).tobytes()),
        *(round(float(mean), 2) for mean in means),
    ]


def agree(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two fingerprints are of the same examples."""
    return len(one) == len(other) and all(
        len(a) == len(b)
        and list(a[:2]) == list(b[:2])
        and all(abs(x - y) <= _TOLERANCE for x, y in zip(a[2:], b[2:], strict=True))
        for a, b in zip(one, other, strict=True)
    )
