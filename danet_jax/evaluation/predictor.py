"""From an image to its labels, with a trained model."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from danet_jax import experiment, parallel
from danet_jax.errors import UserError
from danet_jax.models.danet import DANet
from danet_jax.models.resize import resize_bilinear
from danet_jax.training.checkpoint import Checkpointer
from danet_jax.training.train import CHECKPOINTS, abstract_state

Image = UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"]
Images = UInt8[np.ndarray, "b h w 3"] | Float[np.ndarray, "b h w 3"]
ImageArray = UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"]


class Predictor:
    """Labels whole images, any size, on all devices of this process.

    `predictor(image)` gives labels [h, w]; `labels` takes a batch; `scores` gives probabilities.
    A uint8 image is RGB; a float one counts as normalised already.
    """

    def __init__(self, model: DANet, variables: Any):
        self.model = model
        self._mesh = parallel.local_mesh()
        self.variables = parallel.to_local(variables, self._mesh)

    @classmethod
    def from_workdir(cls, workdir: Path | str, *, step: int | None = None) -> "Predictor":
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
        return cls(state.model, state.best_variables)

    def __call__(self, image: Image) -> UInt8[np.ndarray, "h w"]:
        """Returns the most probable class of each pixel."""
        return self.labels(image[None])[0]

    def labels(self, images: Images) -> UInt8[np.ndarray, "b h w"]:
        """Returns the most probable class of each pixel of images of one size."""
        return self._run(_labels, images)

    def scores(self, image: Image) -> Float[np.ndarray, "h w s"]:
        """Returns the probability of each class at each pixel."""
        return self._run(_scores, image[None])[0]

    def _run(self, function: Any, images: np.ndarray) -> np.ndarray:
        count = len(images)
        rows = -count % self._mesh.shape["data"]
        padded = np.concatenate([images, np.zeros((rows, *images.shape[1:]), images.dtype)])
        with jax.set_mesh(self._mesh):
            batch = parallel.put_batch({"image": padded}, self._mesh)
            result = function(self.model, self.variables, batch["image"])
        return np.asarray(result)[:count]


@functools.partial(jax.jit, static_argnums=0)
def _scores(model: DANet, variables: Any, images: ImageArray) -> Float[Array, "b h w s"]:
    return jax.nn.softmax(full_logits(model, variables, images), axis=-1)


@functools.partial(jax.jit, static_argnums=0)
def _labels(model: DANet, variables: Any, images: ImageArray) -> UInt8[Array, "b h w"]:
    return jnp.argmax(full_logits(model, variables, images), axis=-1).astype(jnp.uint8)


def full_logits(model: DANet, variables: Any, images: ImageArray) -> Float[Array, "b h w s"]:
    """Returns the prediction's logits at the images' size."""
    logits: Any = model.apply(variables, images, train=False)
    size = (images.shape[1], images.shape[2])
    return resize_bilinear(logits["fused"], size, align_corners=model.align_corners)
