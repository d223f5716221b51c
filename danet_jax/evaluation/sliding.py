"""Scores of images from windows at several scales, merged some rows at a time.

A whole image counts as the one window of its scale, so this also runs test-time augmentation
without sliding windows.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from danet_jax.evaluation import merging, windows
from danet_jax.evaluation.padding import ValidRegion, padded_shape
from danet_jax.evaluation.programs import window_scores
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.evaluation.shapes import Shapes
from danet_jax.models.danet import DANet
from danet_jax.runtime import parallel


class Window(NamedTuple):
    """Where a window is: indices of its scale and image, and its first row and column."""

    scale: int
    image: int
    top: int
    left: int


class RowBlock(NamedTuple):
    """The merged scores of some rows of an image, or what is computed from them."""

    image: int
    first_row: int
    # [rows, w, …], padded at the bottom and on the right.
    values: Any


class WindowedInference:
    """Runs a network on windows of images and merges their scores.

    Args:
      settings: the windows, scales and mirror images.
      model: the network, prepared by `inference.prepare`.
      variables: its parameters.
      mesh: the devices of this process.
      batch_size: windows in a batch, a multiple of the devices.
      whole_shapes: what whole images are padded to.
      max_shapes: the most padded shapes, and so compilations, of the sums over windows.
    """

    def __init__(
        self,
        settings: InferenceSettings,
        model: DANet,
        variables: Any,
        *,
        mesh: Mesh,
        batch_size: int,
        whole_shapes: Shapes,
        max_shapes: int,
    ):
        self._settings, self._model, self._variables = settings, model, variables
        self._mesh, self._batch_size = mesh, batch_size
        self._whole_shapes = whole_shapes
        # What stored images and sums over windows are padded to.
        self._image_shapes = Shapes(side=merging.BUCKET, exact=False)
        self._sum_shapes = Shapes(side=merging.BUCKET, exact=False, most=max_shapes)
        self._device = mesh.devices.flat[0]

    def expect(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Chooses the shapes that images of these (height, width) are padded to."""
        self._image_shapes.expect(sizes)

    def row_blocks(self, images: np.ndarray) -> Iterator[RowBlock]:
        """Yields the scores of images [b, h, w, 3] of one size, summed over scales, in row blocks.

        What is held is one full-size total over the earlier scales and, of the current scale, the
        rows that later windows can still change.
        """
        size, merge = (images.shape[1], images.shape[2]), self._settings.merge
        grids = self._settings.grids(size)
        if self._settings.mode == "whole":
            # All sizes are registered first: a shape that is added for one may fit another better.
            self._whole_shapes.expect(grid.size for grid in grids)
            grids = [
                dataclasses.replace(grid, crop=self._padded_whole(grid.size)[0]) for grid in grids
            ]
        shape = self._image_shapes.fit(size).size
        totals = [self._zero_sum(shape) if len(grids) > 1 else None for _ in images]
        sums: dict[tuple[int, int], merging.ScaleSum] = {}
        for window, scores in self._scored_windows(images, grids):
            grid = grids[window.scale]
            key = (window.scale, window.image)
            if key not in sums:
                sums[key] = merging.ScaleSum(
                    grid,
                    size,
                    width=shape[1],
                    shapes=self._sum_shapes,
                    num_classes=self._model.num_classes,
                    align_corners=self._model.align_corners,
                    merge=merge,
                    device=self._device,
                )
            sums[key].add(scores, (window.top, window.left))
            if window.left != grid.lefts[-1]:
                continue
            is_last_row = window.top == grid.tops[-1]
            until = grid.covered[0] if is_last_row else grid.tops[grid.tops.index(window.top) + 1]
            for first, block in sums[key].blocks(until=until):
                total = totals[window.image]
                if window.scale < len(grids) - 1:
                    totals[window.image] = merging.add_block(total, block, first, merge=merge)
                elif total is None:
                    yield RowBlock(window.image, first, block)
                else:
                    rows = merging.plus_rows(block, total, first, merge=merge)
                    yield RowBlock(window.image, first, rows)
            if is_last_row:
                del sums[key]

    def _padded_whole(self, size: tuple[int, int]) -> tuple[tuple[int, int], ValidRegion | None]:
        return padded_shape(self._whole_shapes, size, self._model)

    def _zero_sum(self, shape: tuple[int, int]) -> jax.Array:
        return merging.initial_total(
            shape, self._model.num_classes, self._settings.merge, self._device
        )

    def _scored_windows(
        self, images: np.ndarray, grids: Sequence[windows.Grid]
    ) -> Iterator[tuple[Window, jax.Array]]:
        """Yields all windows with their scores, scale by scale and from top to bottom."""
        size = (images.shape[1], images.shape[2])
        # Images are padded as the sums are; no window reads the padding.
        shape = self._image_shapes.fit(size).size
        padding = [(0, padded - side) for padded, side in zip(shape, size, strict=True)]
        padded_images = np.pad(images, ((0, 0), *padding, (0, 0)))
        with jax.set_mesh(self._mesh):
            pixels = jax.device_put(padded_images, parallel.replicated(self._mesh))
        taps = [
            [
                windows.padded_taps(
                    size[i], grid.size[i], grid.covered[i], align_corners=self._model.align_corners
                )
                for i in range(2)
            ]
            for grid in grids
        ]
        previous: jax.Array | None = None
        for batch in self._batches(len(images), grids):
            height, width = grids[batch[0].scale].crop
            rows = [taps[w.scale][0].cut(w.top, height) for w in batch]
            columns = [taps[w.scale][1].cut(w.left, width) for w in batch]
            region = None
            if self._settings.mode == "whole":
                region = self._padded_whole(grids[batch[0].scale].size)[1]
            scores = self._scores(pixels, batch, rows, columns, region)
            # One batch runs while the one before it is merged; more would only hold memory.
            if previous is not None:
                previous.block_until_ready()
            previous = scores
            yield from zip(batch, _split(scores), strict=False)

    def _batches(self, num_images: int, grids: Sequence[windows.Grid]) -> Iterator[list[Window]]:
        """Yields all windows by scale, row of windows and image; a batch has one window size."""
        batch: list[Window] = []
        for scale, grid in enumerate(grids):
            # Whole images of two scales never share a batch: within one padded shape they have
            # different valid regions.
            is_whole = self._settings.mode == "whole"
            if batch and (grids[batch[0].scale].crop != grid.crop or is_whole):
                yield batch
                batch = []
            for top, image, left in itertools.product(grid.tops, range(num_images), grid.lefts):
                batch.append(Window(scale, image, top, left))
                if len(batch) == self._batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _scores(
        self,
        pixels: jax.Array,
        batch: Sequence[Window],
        rows: Sequence[windows.Taps],
        columns: Sequence[windows.Taps],
        region: ValidRegion | None,
    ) -> jax.Array:
        """Returns the scores of a batch of windows, which is filled up to its full size."""
        image_index = np.zeros(self._batch_size, np.int32)
        image_index[: len(batch)] = [window.image for window in batch]
        stacked = (windows.stack(taps, self._batch_size) for taps in (rows, columns))
        with jax.set_mesh(self._mesh):
            return window_scores(
                self._model,
                self._variables,
                windows.extract(pixels, *parallel.put_rows((image_index, *stacked), self._mesh)),
                region,
                flip=self._settings.flip,
                merge=self._settings.merge,
            )


def _split(scores: jax.Array) -> Iterator[jax.Array]:
    """Yields each window's scores, on the device that computed them."""
    # The parts of the devices are indexed one by one: an index into the whole array would gather
    # it on every device.
    for shard in sorted(scores.addressable_shards, key=lambda s: s.index[0].start or 0):
        yield from shard.data


def assemble(blocks: Sequence[RowBlock], shape: tuple[int, int, int]) -> np.ndarray:
    """Returns images [b, h, w, …] made of all of their row blocks, without the padding."""
    _, height, width = shape
    whole: np.ndarray | None = None
    for index, first, values in blocks:
        rows = np.asarray(values)[: height - first, :width]
        if whole is None:
            whole = np.empty((*shape, *rows.shape[2:]), rows.dtype)
        whole[index, first : first + len(rows)] = rows
    assert whole is not None
    return whole
