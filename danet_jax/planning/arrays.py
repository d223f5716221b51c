"""The sizes of arrays, from their types as XLA writes them."""

import math
import re

# Its type and sides, the order of its axes from the innermost, and more on its place.
_ARRAY = re.compile(r"\b(pred|token|[a-z]+(\d+)\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^{}]*))?\})?")
# The tiles that it is padded to, and the memory that it lies in where that is not the main one.
_TILE = re.compile(r"T\(([\d,]+)\)")
FAST_MEMORY = re.compile(r"S\([1-9]\d*\)")


def array_bytes(type_text: str, *, main_memory: bool = False) -> int:
    """Returns the bytes of all arrays of a type, as XLA writes it.

    Args:
      type_text: of one array, or of a tuple.
      main_memory: count what arrays take there: with the padding to a TPU's tiles, and without
        arrays that lie in the chip's small, fast memory.
    """
    total = 0
    for name, bits, sides_text, order, place in _ARRAY.findall(type_text):
        if name == "token" or (main_memory and FAST_MEMORY.search(place)):
            continue
        sides = numbers(sides_text)
        if main_memory and (tile := _TILE.search(place)):
            for axis, multiple in zip(numbers(order), reversed(numbers(tile[1])), strict=False):
                sides[axis] = -(-sides[axis] // multiple) * multiple
        width = 8 if name == "pred" else int(bits)
        total += -(-width * math.prod(sides) // 8)
    return total


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
