"""Scores of windows, flips and scales merged into those of an image, some rows at a time.

Two rules. "original": a pixel's score is the sum over scales of the mean over windows of
exp(logits + mirrored logits), as in the original (v0.5.0); all are kept as logarithms, so that no
logit overflows. "softmax": the mean of probabilities over windows, flips and scales.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from danet_jax.evaluation.shapes import Shapes
from danet_jax.evaluation.windows import Axis, Grid, axis

MERGES = ("softmax", "original")
# Sums have sides that are multiples of this, so that images of many sizes share their programs; and
# so they have whole blocks of ROWS.
BUCKET = 128
# Rows of the image that are finished at a time.
ROWS = 64


def empty(
    shape: tuple[int, int], num_classes: int, merge: str, device: jax.Device
) -> Float[Array, "h w s"]:
    """Returns the sum of nothing; the sides of its shape are multiples of BUCKET."""
    return jnp.full(
        (*shape, num_classes), -jnp.inf if merge == "original" else 0.0, jnp.float32, device=device
    )


def _sum(a: Array, b: Array, merge: str) -> Array:
    return jnp.logaddexp(a, b) if merge == "original" else a + b


# --- one scale -----------------------------------------------------------------------------------


class ScaleSum:
    """The sum over the windows of one scale, of which only the rows are held that may still change.

    Windows come from top to bottom; what lies above the next row of windows is handed out, resized
    to the image, in blocks of ROWS rows, so that no scale is ever held as a whole.

    Args:
      grid: the windows.
      size: height and width of the image.
      width: of what is handed out; a multiple of BUCKET.
      shapes: of the sums.
      num_classes: of the scores.
      align_corners: how the sizes of image and scale meet.
      merge: the rule.
      device: where the sum is.
    """

    def __init__(
        self,
        grid: Grid,
        size: tuple[int, int],
        *,
        width: int,
        shapes: Shapes,
        num_classes: int,
        align_corners: bool,
        merge: str,
        device: jax.Device,
    ):
        self._grid, self._merge, self._device = grid, merge, device
        padded = (-(-size[0] // ROWS) * ROWS, width)
        # What the rows and columns of the image are mixed of; beyond it of its first ones.
        self._rows, self._columns = (
            Axis(*(np.maximum(values, 0) for values in resized))
            for resized in (
                axis(grid.size[i], size[i], padded[i], align_corners=align_corners)
                for i in range(2)
            )
        )
        counts = grid.counts()
        self._row_counts = counts[0].astype(np.float32)
        self._column_counts = counts[1].astype(np.float32)
        # Row of the scale that the sum begins with, and the next block to hand out.
        self._first, self._block = 0, 0
        self._blocks = padded[0] // ROWS
        self._last_row = size[0] - 1
        self._is_one_window = len(grid.tops) == len(grid.lefts) == 1
        self._sum: Array | None = None
        if not self._is_one_window:
            waiting = max(self._end(block) - self._start(block) for block in range(self._blocks))
            height = min(grid.crop[0] + waiting, grid.covered[0])
            shape = shapes.fit((height, grid.covered[1])).size
            self._sum = empty(shape, num_classes, merge, device)

    def add(self, scores: Float[Array, "h w s"], corner: tuple[int, int]) -> None:
        """Adds a window's scores."""
        scores = jax.device_put(scores, self._device)
        if self._is_one_window:
            self._sum = scores
        else:
            place = np.array((corner[0] - self._first, corner[1]), np.int32)
            self._sum = _add_window(self._sum, scores, place, merge=self._merge)

    def blocks(self, *, until: int) -> Iterator[tuple[int, Float[Array, "{ROWS} W s"]]]:
        """Hands out what is finished now that no window begins above the row `until` any more.

        Yields:
          the first row in the image, and the mean over windows at ROWS rows of it; its columns
          beyond the image are nothing.
        """
        while self._block < self._blocks and self._end(self._block) <= until:
            first = ROWS * self._block
            rows = self._rows.cut(first, ROWS)
            inside = np.array([rows.low, rows.high])
            yield (
                first,
                _resized_rows(
                    self._sum,
                    self._from_first(rows),
                    self._columns,
                    self._row_counts[inside],
                    self._column_counts[np.array([self._columns.low, self._columns.high])],
                    merge=self._merge,
                ),
            )
            self._block += 1
        if self._block == self._blocks:
            self._sum = None
        elif not self._is_one_window:
            start = min(self._start(self._block), until)
            if start > self._first:
                self._sum = _moved_up(self._sum, start - self._first, merge=self._merge)
            self._first = start

    def _from_first(self, rows: Axis) -> Axis:
        low, high = (np.maximum(values - self._first, 0) for values in (rows.low, rows.high))
        return Axis(low, high, rows.weight)

    def _start(self, block: int) -> int:
        return int(self._rows.low[ROWS * block])

    def _end(self, block: int) -> int:
        last = min(ROWS * (block + 1) - 1, self._last_row)
        return int(self._rows.high[last]) + 1


@functools.partial(jax.jit, static_argnames="merge", donate_argnums=0)
def _add_window(total, scores, place, *, merge):
    start = (place[0], place[1], 0)
    former = jax.lax.dynamic_slice(total, start, scores.shape)
    return jax.lax.dynamic_update_slice(total, _sum(former, scores, merge), start)


@functools.partial(jax.jit, static_argnames="merge", donate_argnums=0)
def _moved_up(total, rows, *, merge):
    height = total.shape[0]

    def move(block, total):
        # Block by block from above, so that a row is read before it is written, in one buffer.
        index = ROWS * block + jnp.arange(ROWS) + rows
        moved = total[jnp.minimum(index, height - 1)]
        nothing = -jnp.inf if merge == "original" else 0.0
        moved = jnp.where((index < height)[:, None, None], moved, nothing)
        return jax.lax.dynamic_update_slice(total, moved, (ROWS * block, 0, 0))

    return jax.lax.fori_loop(0, height // ROWS, move, total)


@functools.partial(jax.jit, static_argnames="merge")
def _resized_rows(total, rows, columns, row_counts, column_counts, *, merge):
    def mean(row, row_count, column, column_count):
        number = (row_count[:, None] * column_count[None])[..., None]
        scores = total[row[:, None], column[None]]
        return scores - jnp.log(number) if merge == "original" else scores / number

    def between(row, row_count):
        return _between(
            mean(row, row_count, columns.low, column_counts[0]),
            mean(row, row_count, columns.high, column_counts[1]),
            columns.weight[None, :, None],
            merge,
        )

    return _between(
        between(rows.low, row_counts[0]),
        between(rows.high, row_counts[1]),
        rows.weight[:, None, None],
        merge,
    )


def _between(low: Array, high: Array, weight: Array, merge: str) -> Array:
    """The point between two scores; "original" interpolates what they are logarithms of."""
    if merge == "original":
        return jnp.logaddexp(low + jnp.log1p(-weight), high + jnp.log(weight))
    return low * (1 - weight) + high * weight


# --- several scales ------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnames="merge", donate_argnums=0)
def add_block(
    total: Float[Array, "H W s"],
    block: Float[Array, "h W s"],
    first: int | Int[Array, ""],
    *,
    merge: str,
) -> Float[Array, "H W s"]:
    """Adds a scale's rows to the image's sum, which is given away."""
    return jax.lax.dynamic_update_slice(
        total, plus_rows(block, total, first, merge=merge), (first, 0, 0)
    )


@functools.partial(jax.jit, static_argnames="merge")
def plus_rows(
    block: Float[Array, "h W s"],
    total: Float[Array, "H W s"],
    first: int | Int[Array, ""],
    *,
    merge: str,
) -> Float[Array, "h W s"]:
    """Returns a scale's rows and the image's sum together."""
    return _sum(jax.lax.dynamic_slice(total, (first, 0, 0), block.shape), block, merge)


@jax.jit
def labels(scores: Float[Array, "h w s"]) -> UInt8[Array, "h w"]:
    """Returns the class with the highest score."""
    return jnp.argmax(scores, axis=-1).astype(jnp.uint8)
