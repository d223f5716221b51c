"""Pads images of many sizes to few shapes, since a network is compiled for each shape anew."""

import collections
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]

# How many shapes there are, unless images differ so much that more are needed.
MOST = 6
# Padded sides are multiples of this, the largest stride of a network.
SIDE = 16
# A compilation counts as much as the prediction of this many images. It takes longer than that,
# but happens only once for all evaluations of a training run.
COMPILATION = 5
# A shape may have at most this many times the area of the largest image in it.
_LARGEST_GROWTH = 2.0
# If there are more different sizes than this, they are rounded up before they are compared.
_COMPARED = 256


class Shape(NamedTuple):
    """Height and width that images are padded to."""

    height: int
    width: int
    # Whether it holds only images of exactly this size, so that nothing is padded.
    is_exact: bool

    @property
    def size(self) -> Size:
        return self.height, self.width

    def holds(self, size: Size) -> bool:
        if self.is_exact:
            return self.size == size
        return self.height >= size[0] and self.width >= size[1]


class Shapes:
    """The shapes that images are padded to.

    Shapes are chosen for the sizes that are announced (`expect`); an image of another size gets its
    shape when it comes.

    Args:
      side: the sides of padded shapes are multiples of it.
      exact: whether images that are alone in a shape, all of one size, are left unpadded.
      most: how many shapes there should be.
    """

    def __init__(self, *, side: int = SIDE, exact: bool = True, most: int = MOST):
        self._side, self._exact, self._most = side, exact, most
        self.shapes: list[Shape] = []

    def expect(self, sizes: Iterable[Size]) -> None:
        """Chooses shapes for images of these (height, width)."""
        counts = collections.Counter(sizes)
        unknown = {size: n for size, n in counts.items() if self._known(size) is None}
        if not unknown:
            return
        for group in _grouped(unknown, most=max(self._most - len(self.shapes), 1)):
            self.shapes.append(self._shape_of(group))

    def fit(self, size: Size) -> Shape:
        """Returns the shape for an image (height, width)."""
        known = self._known(size)
        if known is None:
            known = self._new(size)
            self.shapes.append(known)
        return known

    def _known(self, size: Size) -> Shape | None:
        holding = [shape for shape in self.shapes if shape.holds(size)]
        best = min(
            holding, key=lambda shape: (not shape.is_exact, math.prod(shape.size)), default=None
        )
        if best is None or len(self.shapes) >= self._most:
            return best
        # Padding a small image to a much larger shape would soon cost more than a compilation.
        return best if math.prod(best.size) <= 4 * math.prod(size) else None

    def _shape_of(self, sizes: Iterable[Size]) -> Shape:
        sizes = set(sizes)
        height, width = (max(sides) for sides in zip(*sizes, strict=True))
        if self._exact and len(sizes) == 1:
            return Shape(height, width, True)
        return Shape(_up(height, self._side), _up(width, self._side), False)

    def _new(self, size: Size) -> Shape:
        """A shape for a size that was not announced; the more shapes there are, the larger."""
        if not self.shapes:
            return self._shape_of([size])
        height, width = (_up(_step(side), self._side) for side in size)
        if len(self.shapes) >= self._most // 2:
            largest = [max(sides) for sides in zip(*(s.size for s in self.shapes), strict=True)]
            together = (max(height, largest[0]), max(width, largest[1]))
            if math.prod(together) <= 4 * _LARGEST_GROWTH * height * width:
                height, width = (_up(side, self._side) for side in together)
        return Shape(height, width, False)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _step(side: int) -> int:
    """The next larger of 1, √2, 2, √8, …, rounded up."""
    return math.ceil(2 ** (math.ceil(2 * math.log2(side) - 1e-9) / 2))


def _grouped(counts: dict[Size, int], *, most: int) -> list[list[Size]]:
    """Groups of sizes that share a shape, with little padding and few compilations.

    Two groups at a time are joined, those first that add the least padding, as long as there are
    too many groups or a compilation costs more than the padding.
    """
    groups = _rounded(counts)
    members = [list(group) for group in groups]
    height, width, number = (
        np.array(values, np.float64)
        for values in zip(
            *(
                (*map(max, zip(*group, strict=True)), sum(counts[size] for size in group))
                for group in members
            ),
            strict=True,
        )
    )
    total = number.sum()
    compilation = COMPILATION * (number * height * width).sum() / total
    largest = height * width

    def joined(index: int) -> np.ndarray:
        """The padding that joining a group with each of the others adds."""
        area = np.maximum(height, height[index]) * np.maximum(width, width[index])
        cost = area * (number + number[index]) - number * height * width
        cost -= number[index] * height[index] * width[index]
        allowed = area <= _LARGEST_GROWTH * np.maximum(largest, largest[index])
        allowed &= (number > 0) & (number[index] > 0)
        allowed[index] = False
        return np.where(allowed, cost, np.inf)

    costs = np.stack([joined(index) for index in range(len(members))])
    while (number > 0).sum() > 1:
        first, second = np.unravel_index(np.argmin(costs), costs.shape)
        cost = costs[first, second]
        if not np.isfinite(cost) or (cost > compilation and (number > 0).sum() <= most):
            break
        members[first] += members[second]
        members[second] = []
        height[first], width[first], largest[first] = (
            max(values[first], values[second]) for values in (height, width, largest)
        )
        number[first] += number[second]
        number[second] = 0
        costs[second] = costs[:, second] = np.inf
        costs[first] = costs[:, first] = joined(int(first))
    return [group for group in members if group]


def _rounded(counts: dict[Size, int]) -> list[list[Size]]:
    """Groups of one size each; where there are very many, almost equal sizes share a group."""
    groups: dict[Size, list[Size]] = {size: [size] for size in counts}
    step = SIDE
    while len(groups) > _COMPARED:
        groups = {}
        for height, width in counts:
            groups.setdefault((_up(height, step), _up(width, step)), []).append((height, width))
        step *= 2
    return list(groups.values())
