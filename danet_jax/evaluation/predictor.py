"""From an image to its labels, with a trained model."""

import contextlib
import numbers
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import ml_collections
import numpy as np
from jaxtyping import Float, UInt8

from danet_jax.base.errors import UserError
from danet_jax.evaluation import inference, merging
from danet_jax.evaluation.eval_config import changed_options
from danet_jax.evaluation.padding import padded_shape
from danet_jax.evaluation.programs import whole_labels, whole_probabilities
from danet_jax.evaluation.settings import check_cost, inference_settings
from danet_jax.evaluation.shapes import MOST, Shapes
from danet_jax.evaluation.sliding import WindowedInference, assemble
from danet_jax.images import Pixels, check_image, check_images
from danet_jax.models.danet import DANet
from danet_jax.network import Variables, abstract_variables, create_model
from danet_jax.runs import folder as run_folder
from danet_jax.runs.checkpoints import Checkpointer, check_arrays, eval_variables
from danet_jax.runs.config import restore
from danet_jax.runtime import parallel

# The exponential of anything larger may overflow float32 in a sum.
_LARGEST_LOG = 80.0

T = TypeVar("T", bound="Predictor")


class Predictor:
    """Labels images of any size on all devices of this process.

    `predictor(image)` returns labels [h, w], for a list of images a list; `labels` takes a batch;
    `scores` returns the scores of all classes. A uint8 image is RGB from 0 to 255; a float image
    counts as normalised already; everything else is refused.

    Args:
      model: the network.
      variables: its parameters and statistics.
      mode: "whole" predicts the image at once, "slide" predicts windows of crop_size over it.
      crop_size: height and width of a window; required for "slide", and refused for "whole".
      base_size: long side of the image at scale 1; None for the image's own.
      short_side: short side of the image at scale 1, reduced where the long side would exceed
        base_size; None where base_size alone gives the size.
      scales: the scales of test-time augmentation.
      flip: whether the mirrored image is predicted as well.
      merge: "softmax" averages probabilities over windows, scales and mirror images; the last
        windows are shifted back inside the image. "original" is the original's rule (v0.5.0): the
        sum over scales of the mean over windows of exp(logits + mirrored logits); the last windows
        overhang and are filled with black.
      batch_size: windows in a batch, a multiple of the devices; None for one on each device.
      names: names of the classes, where they are known.
      colors: RGB colours of the classes, where they are known.

    Raises:
      UserError: an argument has an invalid value, or would need more memory or windows than there
        can be.
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
        self.settings = inference_settings(
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
        # The step of the checkpoint with the variables; None where they are not from a checkpoint.
        self.step: int | None = None
        self._mesh = parallel.local_mesh()
        devices = self._mesh.shape["data"]
        self.batch_size = devices if batch_size is None else batch_size
        if not isinstance(batch_size, numbers.Integral | None) or self.batch_size < 1:
            raise UserError(f"batch_size is {batch_size!r}; give a whole number of 1 or more.")
        if self.batch_size % devices:
            raise UserError(f"batch_size is {batch_size}; give a multiple of {devices} devices.")
        self.variables = variables
        # The network without batch norms, in the form that predicts fastest here.
        self._prepared = inference.prepare(model, variables, self._mesh)
        _check_finite(self._prepared[1])
        max_shapes = max(MOST, len(self.settings.scales))
        # What whole images are padded to.
        self._shapes = Shapes(most=max_shapes)
        self._windowed = WindowedInference(
            self.settings,
            *self._prepared,
            mesh=self._mesh,
            batch_size=self.batch_size,
            whole_shapes=self._shapes,
            max_shapes=max_shapes,
        )

    @classmethod
    def from_workdir(
        cls: type[T],
        workdir: Path | str,
        *,
        step: int | None = None,
        config: ml_collections.ConfigDict | None = None,
        **options: Any,
    ) -> T:
        """Reads the checkpoint of `step`, else the best one, else the newest.

        The settings are those of the run's config.eval, which the commands use as well.

        Args:
          workdir: the run's folder.
          step: the step of the checkpoint.
          config: the run's config, where fields that do not concern its arrays were changed.
          options: arguments of `Predictor` that replace those of config.eval.

        Raises:
          UserError: there is no such run or checkpoint, an option has an invalid value, or a field
            of config.eval gives it another meaning (a base_size beside its short_side).
        """
        workdir = Path(workdir)
        config = config or run_folder.read_config(workdir)
        names, colors = run_folder.read_classes(workdir)
        chosen = {"names": names, "colors": colors} | changed_options(config.eval, options)
        model = create_model(config.model)
        variables, step = read_variables(workdir, config, model, step)
        predictor = cls(model, variables, **chosen)
        predictor.step = step
        return predictor

    def expect(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Chooses the padded shapes for images of these (height, width), so that few are compiled.

        Without it the shapes are chosen image by image, which takes more padding. The labels are
        the same.

        Raises:
          UserError: an image of such a size would take more memory or windows than there are.
        """
        sizes = list(sizes)
        for size in set(sizes):
            self.check_size(size)
        self._shapes.expect(scaled for size in sizes for scaled in self.settings.sizes(size))
        if not self.settings.is_single_pass:
            self._windowed.expect(sizes)

    def check_size(self, size: tuple[int, int], *, subject: str = "") -> None:
        """Raises a UserError where an image (height, width) would need too much memory or time."""
        check_cost(
            self.settings,
            size,
            num_classes=self.model.num_classes,
            batch_size=self.batch_size,
            subject=subject,
        )

    def __call__(self, image: Any) -> Any:
        """Returns the class with the highest score at each pixel, uint8 [h, w], or a list of them.

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
        if self.settings.is_single_pass:
            return self._predict_whole(whole_labels, images)
        blocks = [
            block._replace(values=merging.labels(block.values))
            for block in self._windowed.row_blocks(images)
        ]
        return assemble(blocks, images.shape[:3])

    def scores(self, image: Any) -> Float[np.ndarray, "h w s"]:
        """Returns the score of each class at each pixel: a probability where merge is "softmax".

        Where it is "original", scores are sums of exponentials, as float64 where float32 would
        overflow.
        """
        if self.settings.is_single_pass and self.settings.merge == "softmax":
            image = self.read(image)
            self.check_size(image.shape[:2])
            return self._predict_whole(whole_probabilities, image[None])[0]
        scores = self.log_scores(image)
        if self.settings.merge == "softmax":
            return np.exp(scores)
        return np.exp(scores.astype(np.float64) if scores.max() > _LARGEST_LOG else scores)

    def log_scores(self, image: Any) -> Float[np.ndarray, "h w s"]:
        """Returns the logarithms of `scores`, which never overflow."""
        image = self.read(image)
        self.check_size(image.shape[:2])
        blocks = [
            block._replace(values=np.asarray(block.values))
            for block in self._windowed.row_blocks(image[None])
        ]
        (total,) = assemble(blocks, (1, *image.shape[:2]))
        is_original = self.settings.merge == "original"
        return total if is_original else np.log(total / len(self.settings.scales))

    def _predict_whole(self, function: Any, images: np.ndarray) -> np.ndarray:
        """Runs a function of `programs` on padded whole images, and removes the padding."""
        count, height, width = images.shape[:3]
        padded, region = padded_shape(self._shapes, (height, width), self.model)
        missing = (-count % self._mesh.shape["data"], padded[0] - height, padded[1] - width, 0)
        padded_images = np.pad(images, [(0, number) for number in missing])
        with jax.set_mesh(self._mesh):
            batch = parallel.put_batch({"image": padded_images}, self._mesh)
            result = function(*self._prepared, batch["image"], region)
        return np.asarray(result)[:count, :height, :width]


def _check_finite(variables: Variables) -> None:
    """Raises a UserError for numbers of which every score would be nan, and every label 0."""
    for path, leaf in jax.tree.leaves_with_path(variables):
        if not np.isfinite(jax.device_get(leaf)).all():
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            raise UserError(
                f"{name} of the network is not finite, so that it cannot label anything. Take an "
                "earlier checkpoint (--step, or step= in Python), or train with a lower rate."
            )


def read_variables(
    workdir: Path, config: ml_collections.ConfigDict, model: DANet, step: int | None = None
) -> tuple[Variables, int]:
    """Returns variables of a run, and the step of their checkpoint.

    Args:
      workdir: the run's folder.
      config: the run's, where fields that do not concern its arrays may be changed.
      model: the run's network.
      step: of the checkpoint; None for the best one, else the newest.

    Raises:
      UserError: there is no such checkpoint, or it is of another network.
    """
    folder = workdir / run_folder.CHECKPOINTS
    if not folder.is_dir():
        raise UserError(f"{workdir} holds no checkpoint yet: train first.")
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        if (latest := checkpointer.latest_step()) is None:
            raise UserError(f"{workdir} holds no checkpoint yet: train first.")
        if step is None:
            best = checkpointer.best_step()
            step = latest if best is None else best
        sharding = parallel.replicated(parallel.create_mesh())
        arrays, record = checkpointer.restore(step, sharding)
    recorded = restore(record.config, source=folder / str(step))
    run_folder.check_same_network(recorded, config, folder / str(step))
    variables = eval_variables(arrays)
    check_arrays(variables, abstract_variables(model), folder / str(step))
    return variables, step
