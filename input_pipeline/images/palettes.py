"""Whether the palettes of all labels number their colours alike.

The indices of a palette image count as ids. Programs that write the best palette for each image
number its colours as they like: an object is then 1 in one file and 2 in the next.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

from danet_jax.input_pipeline.labels import IGNORE_LABEL

Color = tuple[int, ...]

_MOST = 256
_BLACK = (0, 0, 0)
# Programs write these greys where a label has no colours.
_GREYS = tuple((grey, grey, grey) for grey in range(_MOST))


@dataclasses.dataclass(frozen=True)
class Palette:
    """The palette of a label: its colours, and which of its indices occur in the label."""

    label: str
    colors: tuple[Color, ...]
    used: tuple[int, ...]

    @classmethod
    def of(cls, label: str, data: bytes, ids: Sequence[int]) -> "Palette":
        """Takes red, green, blue of each index, and all ids of the label."""
        colors = tuple(zip(data[::3], data[1::3], data[2::3], strict=True))
        return cls(label, colors, tuple(id for id in ids if id < len(colors)))

    @functools.cached_property
    def is_ramp(self) -> bool:
        """Whether it is all greys from black to white in even steps, as for any labels."""
        last = len(self.colors) - 1
        return last > 0 and all(
            max(color) == min(color) and abs(color[0] - 255 * index / last) <= 1
            for index, color in enumerate(self.colors)
        )

    @property
    def is_empty(self) -> bool:
        """Whether nobody chose its colours: they are all 256 greys, or several indices have one."""
        if self.colors == _GREYS or (len(self.colors) > 1 and {*self.colors} == {_BLACK}):
            return True
        return len(self.used) > 1 and len({self.colors[index] for index in self.used}) == 1

    def indices_of(self, color: Color) -> frozenset[int]:
        """Returns all indices of a colour, used or not; absent ones are black."""
        absent = range(len(self.colors), _MOST) if color == _BLACK else ()
        there = (index for index, other in enumerate(self.colors) if other == color)
        return frozenset((*there, *absent))


class Palettes:
    """Compares the palette of each label with those before, until two contradict each other.

    Args:
      id_map: maps raw ids to train ids (255 for ignored).
    """

    def __init__(self, id_map: Mapping[int, int]):
        self._is_void = id_map.get(IGNORE_LABEL, IGNORE_LABEL) == IGNORE_LABEL
        # This says in which two labels and how colours are numbered differently.
        self.contradiction = ""
        # These hold, for each index and each colour, the first palettes that use it differently.
        self._by_index: dict[int, dict[tuple, Palette]] = {}
        self._by_color: dict[Color, dict[tuple, Palette]] = {}

    def add(self, palette: Palette) -> None:
        """Compares and remembers a palette."""
        if self.contradiction or palette.is_empty:
            return
        self.contradiction = next(self._contradictions(palette), "")
        for index in palette.used:
            color = palette.colors[index]
            is_ramp, indices = palette.is_ramp, palette.indices_of(color)
            self._by_index.setdefault(index, {}).setdefault((color, is_ramp), palette)
            self._by_color.setdefault(color, {}).setdefault((index, indices, is_ramp), palette)

    def _contradictions(self, palette: Palette) -> Iterator[str]:
        for index in palette.used:
            color = palette.colors[index]
            # Whatever colour a program draws unlabelled pixels in, they are 255.
            is_void = self._is_void and index == IGNORE_LABEL
            if is_void and color == _BLACK:
                continue
            for (other_color, is_ramp), other in self._by_index.get(index, {}).items():
                if other_color != color and not is_void and not (palette.is_ramp and is_ramp):
                    yield (
                        f"index {index} is {other_color} in {other.label} and {color} in "
                        f"{palette.label}"
                    )
            indices = palette.indices_of(color)
            for (other_index, others, is_ramp), other in self._by_color.get(color, {}).items():
                is_other_void = self._is_void and other_index == IGNORE_LABEL
                if (is_other_void and color == _BLACK) or (palette.is_ramp and is_ramp):
                    continue
                # Several indices may have one colour, if they have it in both files.
                if not {index, other_index} <= indices & others:
                    yield (
                        f"the colour {color} has index {other_index} in {other.label} and index "
                        f"{index} in {palette.label}"
                    )
