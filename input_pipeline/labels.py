"""Names and colours of the classes of a data set."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from danet_jax.base.errors import DataError
from danet_jax.base.labels import IGNORE_LABEL
from danet_jax.base.wording import counted


@dataclasses.dataclass(frozen=True)
class Labels:
    """Names and RGB colours of the classes, in the order of their ids.

    `raw_ids` are the ids of the classes in the data set's own files; () if they are the same.

    Raises:
      DataError: no classes or too many for 8 bits, a name twice, not a colour or raw id for each.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    raw_ids: tuple[int, ...] = ()

    def __post_init__(self):
        if not 0 < len(self.names) <= IGNORE_LABEL:
            classes = counted(len(self.names), "class", "classes")
            raise DataError(
                f"labels: {classes}; 1 to {IGNORE_LABEL} fit into 8 bits beside {IGNORE_LABEL} for "
                "unlabelled pixels"
            )
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            raise DataError(f"labels: class names given more than once: {', '.join(twice)}")
        names = counted(len(self.names), "name")
        if len(self.colors) != len(self.names):
            raise DataError(f"labels: {names} but {counted(len(self.colors), 'colour')}")
        if not self.raw_ids:
            object.__setattr__(self, "raw_ids", tuple(range(len(self.names))))
        if len(set(self.raw_ids)) != len(self.names):
            raise DataError(f"labels: {names}, but the raw ids are {self.raw_ids}")
        for name, color in zip(self.names, self.colors, strict=True):
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise DataError(
                    f"labels: colour {color} of {name!r}; give red, green, blue in 0-255"
                )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Labels":
        """Reads what `to_json` wrote."""
        colors = tuple(tuple(color) for color in values["colors"])
        return cls(tuple(values["names"]), colors, tuple(values["raw_ids"]))

    def to_json(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold."""
        return {
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "raw_ids": list(self.raw_ids),
        }

    @property
    def num_classes(self) -> int:
        return len(self.names)


def standard_color(index: int) -> tuple[int, int, int]:
    """Returns colour `index` of PASCAL VOC's palette, which many tools write into any labels.

    The bits of the index, lowest first, go in turn to red, green and blue, and fill each from its
    highest bit on: VOClabelcolormap.m of the VOC development kit.
    """
    bits = [(index >> position) & 1 for position in range(24)]
    red, green, blue = (
        sum(bit << (7 - place) for place, bit in enumerate(bits[channel::3]))
        for channel in range(3)
    )
    return red, green, blue
