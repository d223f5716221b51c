"""From an image to its labels, with a trained model."""

import contextlib
import dataclasses
import itertools
import numbers
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
from jaxtyping import Float, UInt8

from danet_base.errors import UserError
from danet_jax.evaluation import inference, merging, windows
from danet_jax.evaluation.look import check_cost, make_look
from danet_jax.evaluation.padding import Inside, inside
from danet_jax.evaluation.programs import whole_labels, whole_probabilities, window_scores
from danet_jax.evaluation.settings import changed_options
from danet_jax.evaluation.shapes import MOST, Shapes
from danet_jax.images import Pixels, check_image, check_images
from danet_jax.models.danet import DANet
from danet_jax.network import abstract_variables, create_model
from danet_jax.runs import folder as experiment
from danet_jax.runs.checkpoints import Checkpointer, check_arrays, trained_variables
from danet_jax.runtime import parallel

# Above it the sum of exponentials is no float32 any more.
_LARGEST_LOG = 80.0


class _Window(NamedTuple):
    """What a window shows."""

    # Indices of the scale and of the image.
    scale: int
    image: int
    top: int
    left: int


class Predictor:
    """Labels images of any size on all devices of this process.

    `predictor(image)` gives labels [h, w], of a list of images a list; `labels` takes a batch;
    `scores` gives all classes' scores. A uint8 image is RGB of 0 to 255; a float one counts as
    normalised already; all else is refused.

    Args:
      model: the network.
      variables: its parameters and statistics.
      mode: "whole" image at once, or "slide": windows of crop_size over it.
      crop_size: of a window's sides; needed to slide, and refused otherwise.
      base_size: long side of the image at scale 1; None for the image's own.
      short_side: its short side at scale 1, where base_size does not allow less; None to leave it
        to the long one.
      scales: at which the image is looked at.
      flip: look at the mirrored image, too.
      merge: "softmax": probabilities are averaged over windows, shifted back inside at the image's
        end, scales and mirror images. "original": the sum over scales of the mean over windows,
        which overhang and are filled with black, of exp(logits + mirrored logits) (v0.5.0).
      batch_size: windows at a time; a multiple of the devices. None for one a device.
      names: of the classes, where they are known.
      colors: RGB of the classes, where they are known.

    Raises:
      UserError: a value that is none of these, or that takes more memory or windows than there are.
    """

    def __init__(
        self,
        model: DANet,
        variables: Any,
        *,
        mode: str = "whole",
        crop_size: int | None = None,
        base_size: int | None = None,
        short_side: int | None = None,
        scales: Any = (1.0,),
        flip: bool = False,
        merge: str = "softmax",
        batch_size: int | None = None,
        names: Sequence[str] | None = None,
        colors: Sequence[Sequence[int]] | None = None,
    ):
        self.look = make_look(
            mode=mode,
            crop_size=crop_size,
            base_size=base_size,
            short_side=short_side,
            scales=scales,
            flip=flip,
            merge=merge,
        )
        self.model = model
        self.names = None if names is None else tuple(names)
        self.colors = None if colors is None else tuple(tuple(color) for color in colors)
        # Of the checkpoint that the variables are from, None where they are from elsewhere.
        self.step: int | None = None
        self._mesh = parallel.local_mesh()
        devices = self._mesh.shape["data"]
        self.batch_size = devices if batch_size is None else batch_size
        if not isinstance(batch_size, numbers.Integral | None) or self.batch_size < 1:
            raise UserError(f"batch_size is {batch_size!r}; give a whole number of 1 or more.")
        if self.batch_size % devices:
            raise UserError(f"batch_size is {batch_size}; give a multiple of {devices} devices.")
        self.variables = variables
        self._network, self._prepared = inference.prepare(model, variables, self._mesh)
        self._device = self._mesh.devices.flat[0]
        # What whole images, stored images and sums over windows are padded to.
        most = max(MOST, len(self.look.scales))
        self._shapes = Shapes(most=most)
        self._image_shapes = Shapes(side=merging.BUCKET, exact=False)
        self._sum_shapes = Shapes(side=merging.BUCKET, exact=False, most=most)

    @classmethod
    def from_workdir(
        cls,
        workdir: Path | str,
        *,
        step: int | None = None,
        config: ml_collections.ConfigDict | None = None,
        **options: Any,
    ) -> "Predictor":
        """Reads the checkpoint of `step`, else the best one, else the newest.

        Images are looked at as the run's own config.eval says, and as the commands do.

        Args:
          workdir: of the run.
          step: of the checkpoint.
          config: the run's own, where fields that do not concern its arrays were changed.
          options: arguments of `Predictor` in place of what config.eval says.

        Raises:
          UserError: there is no such run or checkpoint, a value that is none, or an option that
            one of config.eval gives another meaning (a base_size beside its short_side).
        """
        workdir = Path(workdir)
        config = config or experiment.read_config(workdir)
        names, colors = experiment.read_classes(workdir)
        chosen = {"names": names, "colors": colors} | changed_options(config.eval, options)
        folder = workdir / experiment.CHECKPOINTS
        if not folder.is_dir():
            raise UserError(f"{workdir} holds no checkpoint yet: train first.")
        with contextlib.closing(Checkpointer(folder)) as checkpointer:
            if (latest := checkpointer.latest_step()) is None:
                raise UserError(f"{workdir} holds no checkpoint yet: train first.")
            if step is None:
                best = checkpointer.best_step()
                step = latest if best is None else best
            placement = parallel.replicated(parallel.create_mesh())
            arrays, _ = checkpointer.restore(step, placement)
        model = create_model(config.model)
        variables = trained_variables(arrays)
        check_arrays(variables, abstract_variables(model), folder / str(step))
        predictor = cls(model, variables, **chosen)
        predictor.step = step
        return predictor

    def expect(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Prepares for images of these (height, width), so that little is compiled for them.

        Without it the shapes that images are padded to are chosen as they come, which takes more
        padding. The labels are the same.

        Raises:
          UserError: an image of such a size would take more memory or windows than there are.
        """
        sizes = list(sizes)
        for size in set(sizes):
            self.check_size(size)
        self._shapes.expect(scaled for size in sizes for scaled in self.look.sizes(size))
        if not self.look.is_plain:
            self._image_shapes.expect(sizes)

    def check_size(self, size: tuple[int, int], *, subject: str = "") -> None:
        """Raises a UserError where an image (height, width) would take more than there is."""
        check_cost(
            self.look,
            size,
            num_classes=self.model.num_classes,
            windows_at_a_time=self.batch_size,
            subject=subject,
        )

    def __call__(self, image: Any) -> Any:
        """Returns the class with the highest score at each pixel, uint8 [h, w]; of a list a list.

        Raises:
          UserError: an image that is not uint8 or normalised, see `images.check_image`.
        """
        if isinstance(image, list | tuple):
            return [self(one) for one in image]
        return self.labels(self.read(image)[None])[0]

    def read(self, image: Any) -> Pixels:
        """Returns an image as it is predicted, RGB [h, w, 3] in uint8 or normalised floats."""
        return check_image(image)

    def labels(self, images: Any) -> UInt8[np.ndarray, "b h w"]:
        """Returns the class with the highest score at each pixel of images of one size.

        Args:
          images: [b, h, w, 3], uint8 or normalised floats.
        """
        images = check_images(images)
        self.check_size(images.shape[1:3])
        if self.look.is_plain:
            return self._whole(whole_labels, images)
        found = [
            (index, first, merging.labels(block)) for index, first, block in self._blocks(images)
        ]
        return _assembled(found, images.shape[:3])

    def scores(self, image: Any) -> Float[np.ndarray, "h w s"]:
        """Returns the score of each class at each pixel: of "softmax" a probability.

        Of "original" it is the sum of exponentials, as float64 where float32 would overflow.
        """
        if self.look.is_plain and self.look.merge == "softmax":
            image = self.read(image)
            self.check_size(image.shape[:2])
            return self._whole(whole_probabilities, image[None])[0]
        scores = self.log_scores(image)
        if self.look.merge == "softmax":
            return np.exp(scores)
        return np.exp(scores.astype(np.float64) if scores.max() > _LARGEST_LOG else scores)

    def log_scores(self, image: Any) -> Float[np.ndarray, "h w s"]:
        """Returns the logarithms of `scores`, of which none overflows."""
        image = self.read(image)
        self.check_size(image.shape[:2])
        blocks = [
            (index, first, np.asarray(block)) for index, first, block in self._blocks(image[None])
        ]
        (total,) = _assembled(blocks, (1, *image.shape[:2]))
        is_original = self.look.merge == "original"
        return total if is_original else np.log(total / len(self.look.scales))

    def _whole(self, function: Any, images: np.ndarray) -> np.ndarray:
        count, height, width = images.shape[:3]
        padded, where = self._padded((height, width))
        missing = (-count % self._mesh.shape["data"], padded[0] - height, padded[1] - width, 0)
        padded_images = np.pad(images, [(0, number) for number in missing])
        with jax.set_mesh(self._mesh):
            batch = parallel.put_batch({"image": padded_images}, self._mesh)
            result = function(self._network, self._prepared, batch["image"], where)
        return np.asarray(result)[:count, :height, :width]

    def _padded(self, size: tuple[int, int]) -> tuple[tuple[int, int], Inside | None]:
        """What a whole image is padded to, and where it is in there; None where it is all."""
        shape = self._shapes.fit(size)
        return shape.size, None if shape.is_exact else inside(size, shape.size, self.model)

    # -- Windows, scales, mirror images -----------------------------------------------------------

    def _blocks(self, images: np.ndarray) -> Iterator[tuple[int, int, jax.Array]]:
        """Index of an image, first row, and sums over scales of some rows: all rows of all images.

        Sums of the scales before the last are held as a whole, and of each scale the rows of its
        windows.
        """
        size, merge = (images.shape[1], images.shape[2]), self.look.merge
        grids = self.look.grids(size)
        if self.look.mode == "whole":
            # First all, since a shape that is added for one may be the better one for another.
            self._shapes.expect(grid.size for grid in grids)
            grids = [dataclasses.replace(grid, crop=self._padded(grid.size)[0]) for grid in grids]
        shape = self._image_shapes.fit(size).size
        totals = [self._empty(shape) if len(grids) > 1 else None for _ in images]
        sums: dict[tuple[int, int], merging.ScaleSum] = {}
        for window, scores in self._windows(images, grids):
            grid = grids[window.scale]
            key = (window.scale, window.image)
            if key not in sums:
                sums[key] = merging.ScaleSum(
                    grid,
                    size,
                    width=shape[1],
                    shapes=self._sum_shapes,
                    num_classes=self.model.num_classes,
                    align_corners=self.model.align_corners,
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
                    yield window.image, first, block
                else:
                    rows = merging.plus_rows(block, total, first, merge=merge)
                    yield window.image, first, rows
            if is_last_row:
                del sums[key]

    def _empty(self, shape: tuple[int, int]) -> jax.Array:
        return merging.empty(shape, self.model.num_classes, self.look.merge, self._device)

    def _windows(
        self, images: np.ndarray, grids: Sequence[windows.Grid]
    ) -> Iterator[tuple[_Window, jax.Array]]:
        """Scores of all windows, scale by scale and from top to bottom; a batch has one size."""
        size = (images.shape[1], images.shape[2])
        # Padded, as the sums are; no window looks there.
        shape = self._image_shapes.fit(size).size
        around = [(0, padded - side) for padded, side in zip(shape, size, strict=True)]
        rounded = np.pad(images, ((0, 0), *around, (0, 0)))
        with jax.set_mesh(self._mesh):
            pixels = jax.device_put(rounded, parallel.replicated(self._mesh))
        axes = [
            [
                windows.axis(
                    size[i], grid.size[i], grid.covered[i], align_corners=self.model.align_corners
                )
                for i in range(2)
            ]
            for grid in grids
        ]
        former: jax.Array | None = None
        for batch in self._batches(len(images), grids):
            height, width = grids[batch[0].scale].crop
            rows = [axes[w.scale][0].cut(w.top, height) for w in batch]
            columns = [axes[w.scale][1].cut(w.left, width) for w in batch]
            where = None
            if self.look.mode == "whole":
                where = self._padded(grids[batch[0].scale].size)[1]
            found = self._window_scores(pixels, batch, rows, columns, where)
            # One batch runs while the former is merged; more would only hold memory.
            if former is not None:
                former.block_until_ready()
            former = found
            yield from zip(batch, _rows_of(found), strict=False)

    def _batches(self, num_images: int, grids: Sequence[windows.Grid]) -> Iterator[list[_Window]]:
        """All windows, by scale, row of windows, image; those of one batch are of one size."""
        batch: list[_Window] = []
        for scale, grid in enumerate(grids):
            # Whole images share a batch where they are of one size within the same shape.
            if batch and (grids[batch[0].scale].crop != grid.crop or self.look.mode == "whole"):
                yield batch
                batch = []
            for top, image, left in itertools.product(grid.tops, range(num_images), grid.lefts):
                batch.append(_Window(scale, image, top, left))
                if len(batch) == self.batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _window_scores(
        self,
        pixels: jax.Array,
        batch: Sequence[_Window],
        rows: Sequence[windows.Axis],
        columns: Sequence[windows.Axis],
        where: Inside | None,
    ) -> jax.Array:
        of = np.zeros(self.batch_size, np.int32)
        of[: len(batch)] = [window.image for window in batch]
        with jax.set_mesh(self._mesh):
            places = parallel.put_rows(
                (of, windows.stack(rows, self.batch_size), windows.stack(columns, self.batch_size)),
                self._mesh,
            )
            return window_scores(
                self._network,
                self._prepared,
                windows.cut(pixels, *places),
                where,
                flip=self.look.flip,
                merge=self.look.merge,
            )


def _rows_of(scores: jax.Array) -> Iterator[jax.Array]:
    """Each window's scores, on the device that computed them."""
    # Row by row of each device's part: an index into the whole would gather it everywhere.
    for shard in sorted(scores.addressable_shards, key=lambda s: s.index[0].start or 0):
        yield from shard.data


def _assembled(blocks: Sequence[tuple[int, int, Any]], shape: tuple[int, ...]) -> np.ndarray:
    """Images [b, h, w, …] of the rows of `_blocks`."""
    _, height, width = shape
    found: np.ndarray | None = None
    for index, first, block in blocks:
        rows = np.asarray(block)[: height - first, :width]
        if found is None:
            found = np.empty((*shape, *rows.shape[2:]), rows.dtype)
        found[index, first : first + len(rows)] = rows
    assert found is not None
    return found
