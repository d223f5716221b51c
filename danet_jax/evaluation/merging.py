"""Merges the scores of windows, mirror images and scales into those of an image, by blocks of rows.

There are two rules. "original": a pixel's score is the sum over scales of the mean over windows of
exp(logits + mirrored logits), as in the original (v0.5.0); only logarithms are held, so that
nothing overflows. "softmax": the mean of the probabilities over windows, mirror images and scales.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from danet_jax.evaluation.shapes import Shapes
from danet_jax.evaluation.windows import Grid, Taps, padded_taps

MERGES = ("softmax", "original")
# The sides of sums are multiples of this, so that images of many sizes share compiled functions.
# It is a multiple of ROWS.
BUCKET = 128
# Rows of the image that are finished at once.
ROWS = 64


def initial_total(
    shape: tuple[int, int], num_classes: int, merge: str, device: jax.Device
) -> Float[Array, "h w s"]:
    """Returns zeros, or -inf for logarithms; the sides of the shape are multiples of BUCKET."""
    return jnp.full(
        (*shape, num_classes), -jnp.inf if merge == "original" else 0.0, jnp.float32, device=device
    )


def _add(a: Array, b: Array, merge: str) -> Array:
    return jnp.logaddexp(a, b) if merge == "original" else a + b


# --- one scale -----------------------------------------------------------------------------------


class ScaleSum:
    """The sum over the windows of one scale; only the rows that may still change are held.

    Windows are added from top to bottom. The rows above the next row of windows are finished: they
    are resized to the image and returned in blocks of ROWS rows, so that no scale is ever held as a
    whole.

    Args:
      grid: the windows.
      size: height and width of the image.
      width: the width of the blocks, a multiple of BUCKET.
      shapes: the shapes that sums may have.
      num_classes: classes that have a score.
      align_corners: whether the corners of scale and image are aligned where it is resized.
      merge: one of MERGES.
      device: where the sum is held.
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
        # The rows and columns of this scale from which each row and column of the image is
        # interpolated. Padding points at index 0, and its result is discarded.
        self._rows, self._columns = (
            Taps(*(np.maximum(values, 0) for values in resized))
            for resized in (
                padded_taps(grid.size[i], size[i], padded[i], align_corners=align_corners)
                for i in range(2)
            )
        )
        counts = grid.counts()
        self._row_counts = counts[0].astype(np.float32)
        self._column_counts = counts[1].astype(np.float32)
        # The row of the scale that the sum begins with, and the next block to return.
        self._first, self._block = 0, 0
        self._num_blocks = padded[0] // ROWS
        self._last_row = size[0] - 1
        self._is_one_window = len(grid.tops) == len(grid.lefts) == 1
        self._sum: Array | None = None
        if not self._is_one_window:
            rows_of_block = max(
                self._end(block) - self._start(block) for block in range(self._num_blocks)
            )
            height = min(grid.crop[0] + rows_of_block, grid.covered[0])
            shape = shapes.fit((height, grid.covered[1])).size
            self._sum = initial_total(shape, num_classes, merge, device)

    def add(self, scores: Float[Array, "h w s"], corner: tuple[int, int]) -> None:
        """Adds the scores of the window whose first row and column are `corner`."""
        scores = jax.device_put(scores, self._device)
        if self._is_one_window:
            self._sum = scores
        else:
            held_corner = np.array((corner[0] - self._first, corner[1]), np.int32)
            self._sum = _add_window(self._sum, scores, held_corner, merge=self._merge)

    def blocks(self, *, until: int) -> Iterator[tuple[int, Float[Array, "{ROWS} W s"]]]:
        """Yields the blocks that are complete if later windows start at row `until` or below.

        Yields:
          the block's first row in the image, and the mean over windows at its ROWS rows; columns
          beyond the image have no meaning.
        """
        while self._block < self._num_blocks and self._end(self._block) <= until:
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
        if self._block == self._num_blocks:
            self._sum = None
        elif not self._is_one_window:
            start = min(self._start(self._block), until)
            if start > self._first:
                self._sum = _moved_up(self._sum, start - self._first, merge=self._merge)
            self._first = start

    def _from_first(self, rows: Taps) -> Taps:
        low, high = (np.maximum(values - self._first, 0) for values in (rows.low, rows.high))
        return Taps(low, high, rows.weight)

    def _start(self, block: int) -> int:
        return int(self._rows.low[ROWS * block])

    def _end(self, block: int) -> int:
        last = min(ROWS * (block + 1) - 1, self._last_row)
        return int(self._rows.high[last]) + 1


@functools.partial(jax.jit, static_argnames="merge", donate_argnums=0)
def _add_window(total, scores, corner, *, merge):
    start = (corner[0], corner[1], 0)
    window = jax.lax.dynamic_slice(total, start, scores.shape)
    return jax.lax.dynamic_update_slice(total, _add(window, scores, merge), start)


@functools.partial(jax.jit, static_argnames="merge", donate_argnums=0)
def _moved_up(total, rows, *, merge):
    height = total.shape[0]

    def move(block, total):
        # Rows move up within one buffer, from top to bottom, so that each is read before it is
        # overwritten.
        index = ROWS * block + jnp.arange(ROWS) + rows
        moved = total[jnp.minimum(index, height - 1)]
        neutral = -jnp.inf if merge == "original" else 0.0
        moved = jnp.where((index < height)[:, None, None], moved, neutral)
        return jax.lax.dynamic_update_slice(total, moved, (ROWS * block, 0, 0))

    return jax.lax.fori_loop(0, height // ROWS, move, total)


@functools.partial(jax.jit, static_argnames="merge")
def _resized_rows(total, rows, columns, row_counts, column_counts, *, merge):
    def mean(row, row_count, column, column_count):
        number = (row_count[:, None] * column_count[None])[..., None]
        scores = total[row[:, None], column[None]]
        return scores - jnp.log(number) if merge == "original" else scores / number

    def interpolate_columns(row, row_count):
        return _interpolate(
            mean(row, row_count, columns.low, column_counts[0]),
            mean(row, row_count, columns.high, column_counts[1]),
            columns.weight[None, :, None],
            merge,
        )

    return _interpolate(
        interpolate_columns(rows.low, row_counts[0]),
        interpolate_columns(rows.high, row_counts[1]),
        rows.weight[:, None, None],
        merge,
    )


def _interpolate(low: Array, high: Array, weight: Array, merge: str) -> Array:
    """Interpolates two scores, which are logarithms for "original": there in their exponentials."""
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
    """Adds a block of rows of one scale to the image's sum, whose buffer is donated."""
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
    """Returns a block of rows of one scale plus the image's sum at these rows."""
    return _add(jax.lax.dynamic_slice(total, (first, 0, 0), block.shape), block, merge)


@jax.jit
def labels(scores: Float[Array, "h w s"]) -> UInt8[Array, "h w"]:
    """Returns the class with the highest score."""
    return jnp.argmax(scores, axis=-1).astype(jnp.uint8)
