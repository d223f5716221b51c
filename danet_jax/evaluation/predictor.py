"""From an image to its labels, with a trained model."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from danet_jax import experiment, parallel
from danet_jax.errors import UserError, check_choice
from danet_jax.evaluation import merging, windows
from danet_jax.models.danet import DANet, full_logits
from danet_jax.models.normalization import fold_batch_norm
from danet_jax.training.checkpoint import Checkpointer
from danet_jax.training.train import CHECKPOINTS, abstract_state

Image = UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"]
Images = UInt8[np.ndarray, "b h w 3"] | Float[np.ndarray, "b h w 3"]
ImageArray = UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"]

MODES = ("whole", "slide")
# Above it the sum of exponentials is no float32 any more.
_LARGEST_LOG = 80.0


class _Place(NamedTuple):
    """What a window shows."""

    # Indices of the scale and of the image.
    scale: int
    image: int
    corner: tuple[int, int]


class Predictor:
    """Labels images of any size on all devices of this process.

    `predictor(image)` gives labels [h, w]; `labels` takes a batch; `scores` gives all classes'
    scores. A uint8 image is RGB; a float one counts as normalised already.

    Args:
      model: the network.
      variables: its parameters and statistics.
      mode: "whole" image at once, or "slide": windows of crop_size over it.
      crop_size: of a window's sides; needed to slide.
      base_size: long side of the image at scale 1; None for the image's own.
      scales: at which the image is looked at.
      flip: look at the mirrored image, too.
      merge: "softmax": probabilities are averaged over windows, shifted back inside at the image's
        end, scales and mirror images. "original": the sum over scales of the mean over windows,
        which overhang and are filled with black, of exp(logits + mirrored logits) (v0.5.0).
      batch_size: windows at a time; a multiple of the devices. None for one a device.

    Raises:
      UserError: a value that is none of these.
    """

    def __init__(
        self,
        model: DANet,
        variables: Any,
        *,
        mode: str = "whole",
        crop_size: int | None = None,
        base_size: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        merge: str = "softmax",
        batch_size: int | None = None,
    ):
        check_choice("mode", mode, MODES)
        check_choice("merge", merge, merging.MERGES)
        if mode == "slide" and (crop_size is None or crop_size < 1):
            raise UserError(f"crop_size is {crop_size}; windows need a size of 1 or more.")
        if not scales or min(scales) <= 0:
            raise UserError(f"scales are {tuple(scales)}; give numbers above 0.")
        self.model = model
        self._mesh = parallel.local_mesh()
        self.variables = variables
        self._folded = parallel.to_local(fold_batch_norm(variables), self._mesh)
        self.mode, self.crop_size, self.base_size = mode, crop_size, base_size
        self.scales, self.flip, self.merge = tuple(scales), flip, merge
        devices = self._mesh.shape["data"]
        self.batch_size = batch_size or devices
        if self.batch_size % devices:
            raise UserError(f"batch_size is {batch_size}; give a multiple of {devices} devices.")

    @classmethod
    def from_workdir(
        cls, workdir: Path | str, *, step: int | None = None, **options: Any
    ) -> "Predictor":
        """Reads the checkpoint of `step`, else the best one, else the newest."""
        workdir = Path(workdir)
        config = experiment.read_config(workdir)
        folder = workdir / CHECKPOINTS
        if not folder.is_dir():
            raise UserError(f"{workdir} holds no checkpoint yet: train first.")
        with contextlib.closing(Checkpointer(folder)) as checkpointer:
            if (latest := checkpointer.latest_step()) is None:
                raise UserError(f"{workdir} holds no checkpoint yet: train first.")
            if step is None:
                best = checkpointer.best_step()
                step = latest if best is None else best
            # The length of training is not in the arrays.
            abstract = abstract_state(config, parallel.create_mesh(), total_steps=1)
            state, _ = checkpointer.restore(abstract, step=step)
        return cls(state.model, state.best_variables, **options)

    def __call__(self, image: Image) -> UInt8[np.ndarray, "h w"]:
        """Returns the class with the highest score at each pixel."""
        return self.labels(image[None])[0]

    def labels(self, images: Images) -> UInt8[np.ndarray, "b h w"]:
        """Returns the class with the highest score at each pixel of images of one size."""
        if self._is_plain:
            return self._whole(_labels, images)
        height, width = images.shape[1:3]
        totals = (merging.labels(total) for total in self._totals(images))
        return np.stack([np.asarray(found)[:height, :width] for found in totals])

    def scores(self, image: Image) -> Float[np.ndarray, "h w s"]:
        """Returns the score of each class at each pixel: of "softmax" a probability.

        Of "original" it is the sum of exponentials, as float64 where float32 would overflow.
        """
        if self._is_plain and self.merge == "softmax":
            return self._whole(_probabilities, image[None])[0]
        scores = self.log_scores(image)
        if self.merge == "softmax":
            return np.exp(scores)
        return np.exp(scores.astype(np.float64) if scores.max() > _LARGEST_LOG else scores)

    def log_scores(self, image: Image) -> Float[np.ndarray, "h w s"]:
        """Returns the logarithms of `scores`, of which none overflows."""
        (found,) = self._totals(image[None])
        total = np.asarray(found)[: image.shape[0], : image.shape[1]]
        return total if self.merge == "original" else np.log(total / len(self.scales))

    @property
    def _is_plain(self) -> bool:
        """One look at the whole image, of which the best class is the best logit."""
        return (self.mode, self.base_size, self.scales, self.flip) == ("whole", None, (1.0,), False)

    def _whole(self, function: Any, images: np.ndarray) -> np.ndarray:
        count = len(images)
        rows = -count % self._mesh.shape["data"]
        padded = np.concatenate([images, np.zeros((rows, *images.shape[1:]), images.dtype)])
        with jax.set_mesh(self._mesh):
            batch = parallel.put_batch({"image": padded}, self._mesh)
            result = function(self.model, self._folded, batch["image"])
        return np.asarray(result)[:count]

    # -- Windows, scales, mirror images -----------------------------------------------------------

    def _totals(self, images: np.ndarray) -> list[jax.Array]:
        """Sums over scales of images of one size, with sides rounded up."""
        size = (images.shape[1], images.shape[2])
        normalized = [windows.normalized(image) for image in images]
        grids = [
            self._grid(windows.scaled_size(size, scale, base_size=self.base_size))
            for scale in self.scales
        ]
        totals = [self._empty(size) for _ in images]
        # By scale: each image's sum over windows, held until the scale's last window.
        sums: dict[int, list[jax.Array]] = {}
        missing = [len(images) * len(grid.corners) for grid in grids]
        for places, batch in self._batches(normalized, grids):
            for place, scores in zip(places, self._window_scores(batch), strict=False):
                grid = grids[place.scale]
                of_scale = sums.setdefault(place.scale, [])
                of_scale += [self._empty(grid.covered) for _ in images[len(of_scale) :]]
                one = jax.device_put(scores, of_scale[place.image].sharding)
                of_scale[place.image] = merging.add_window(
                    of_scale[place.image], one, np.array(place.corner, np.int32), merge=self.merge
                )
                missing[place.scale] -= 1
                if not missing[place.scale]:
                    counts = grid.counts()
                    for index, found in enumerate(sums.pop(place.scale)):
                        totals[index] = merging.add_scale(
                            totals[index],
                            found,
                            counts,
                            size,
                            align_corners=self.model.align_corners,
                            merge=self.merge,
                        )
        return totals

    def _empty(self, size: tuple[int, int]) -> jax.Array:
        return merging.empty(size, self.model.num_classes, self.merge)

    def _grid(self, size: tuple[int, int]) -> windows.Grid:
        if self.mode == "whole":
            return windows.Grid(size, size, ((0, 0),))
        assert self.crop_size is not None
        if self.merge == "original":
            return windows.original_grid(size, self.crop_size, several_scales=len(self.scales) > 1)
        return windows.grid(
            size, self.crop_size, stride=max(self.crop_size * 2 // 3, 1), overhang=False
        )

    def _batches(
        self, images: Sequence[np.ndarray], grids: Sequence[windows.Grid]
    ) -> Iterator[tuple[list[_Place], np.ndarray]]:
        """Windows of one size, of any image and scale; zeros fill up the last batch."""
        places: list[_Place] = []
        batch = np.zeros((self.batch_size, 0, 0, 3), np.float32)
        for scale, grid in enumerate(grids):
            if batch.shape[1:3] != grid.crop:
                if places:
                    yield places, batch
                places, batch = [], np.zeros((self.batch_size, *grid.crop, 3), np.float32)
            for index, image in enumerate(images):
                resized = merging.resize(image, grid.size, align_corners=self.model.align_corners)
                for corner in grid.corners:
                    batch[len(places)] = grid.cut(resized, corner)
                    places.append(_Place(scale, index, corner))
                    if len(places) == self.batch_size:
                        yield places, batch
                        places, batch = [], np.zeros_like(batch)
        if places:
            yield places, batch

    def _window_scores(self, batch: np.ndarray) -> Iterator[jax.Array]:
        """Scores of each window, on the device that computed them."""
        with jax.set_mesh(self._mesh):
            found = merging.window_scores(
                self.model,
                self._folded,
                parallel.put_batch({"image": batch}, self._mesh)["image"],
                flip=self.flip,
                merge=self.merge,
            )
        # Row by row of each device's part: an index into the whole would gather it everywhere.
        for shard in sorted(found.addressable_shards, key=lambda s: s.index[0].start or 0):
            yield from shard.data


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(model: DANet, variables: Any, images: ImageArray) -> Float[Array, "b h w s"]:
    return jax.nn.softmax(full_logits(model, variables, images), axis=-1)


@functools.partial(jax.jit, static_argnums=0)
def _labels(model: DANet, variables: Any, images: ImageArray) -> UInt8[Array, "b h w"]:
    return jnp.argmax(full_logits(model, variables, images), axis=-1).astype(jnp.uint8)
