"""Masks in the compressed run lengths of COCO, cocodataset/cocoapi, common/maskApi.c."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from danet_jax.input_pipeline.checking.pairs import LabelError

# A character holds 5 bits of a number, the lowest first, and a 6th bit that says that more follow.
_FIRST_CHARACTER = ord("0")
_BITS, _MORE, _NEGATIVE = 5, 0b100000, 0b010000
# Numbers of 30 bits are more than any image has pixels, and longer ones would overflow.
_MAX_CHARACTERS = 6


def decode(counts: str, size: Sequence[int]) -> Bool[np.ndarray, "h w"]:
    """Returns the mask of a string; `size` is its height and width.

    The runs go down the columns, from left to right, and are outside and inside the mask in turn.
    From the fourth on, a number is the difference from the run two before.

    Raises:
      LabelError: the string is torn, or covers another number of pixels.
    """
    height, width = size
    runs = _to_runs(_to_numbers(counts))
    if (runs < 0).any() or runs.sum() != height * width:
        raise LabelError(f"a mask whose runs do not cover {width}x{height} pixels")
    return np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(width, height).T


def _to_numbers(counts: str) -> np.ndarray:
    characters = np.frombuffer(counts.encode(errors="surrogatepass"), np.uint8).astype(np.int64)
    characters -= _FIRST_CHARACTER
    ends = np.flatnonzero((characters & _MORE) == 0)
    starts = np.concatenate([[0], ends + 1])[:-1]
    lengths = ends - starts + 1
    if (
        not characters.size
        or not ends.size
        or ends[-1] != characters.size - 1
        or ((characters < 0) | (characters >= 2 * _MORE)).any()
        or lengths.max() > _MAX_CHARACTERS
    ):
        raise LabelError("a mask that is no string of run lengths")
    positions = np.arange(characters.size) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((characters & (_MORE - 1)) << (_BITS * positions), starts)
    negative = (characters[ends] & _NEGATIVE) != 0
    return numbers - (negative.astype(np.int64) << (_BITS * lengths))


def _to_runs(numbers: np.ndarray) -> np.ndarray:
    runs = numbers.copy()
    for first in (1, 2):
        runs[first::2] = np.cumsum(numbers[first::2])
    return runs
