"""One step of training for a loop of one's own: checked and compiled."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from danet_jax.base.errors import UserError
from danet_jax.base.labels import IGNORE_LABEL
from danet_jax.base.wording import counted
from danet_jax.images import check_images
from danet_jax.platform import Target, compiler_options
from danet_jax.training.state import Batch, Metrics, TrainState, update_state

# How many wrong labels a message names.
_NAMED = 5


def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Returns the state after one update and its metrics.

    It is compiled at its first call for each shape of a batch. The given state stays as it is, so
    that memory holds two states meanwhile; `jax.jit(train_step, donate_argnums=0)` writes the new
    one over it, as `train` does.

    Args:
      state: as `create_train_state` made it.
      batch: "image" [b, h, w, 3] uint8 RGB or normalised float; "label" [b, h, w] whole numbers,
        0 to the number of classes - 1, and 255 for pixels to ignore.

    Returns:
      The new state, and "loss" (the weighted sum), its parts "loss_fused", …, "learning_rate" and
      "gradient_norm" (before clipping). Where labels that are on a device already hold anything
      else, the losses and the norm are nan and no parameter moves: go on from the former state.

    Raises:
      UserError: an array is missing or has another shape or type; NumPy's labels hold what is
        neither a class nor 255; NumPy's images are neither uint8 nor normalised.
    """
    batch = _checked(batch, state.settings.model.num_classes)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((state, batch))):
        # Part of a larger program, which is compiled as a whole.
        return update_state(state, batch)
    return _compiled()(state, batch)


@functools.cache
def _compiled() -> Callable:
    return jax.jit(update_state, compiler_options=compiler_options(Target.here()))


def _checked(batch: Batch, num_classes: int) -> Batch:
    """Returns images and labels; only what is in this machine's memory is looked at."""
    if missing := [name for name in ("image", "label") if name not in batch]:
        raise UserError(f"The batch holds no {' and no '.join(map(repr, missing))}.")
    image, label = (_array(batch[name]) for name in ("image", "label"))
    if isinstance(image, np.ndarray):
        image = check_images(image)
    elif image.dtype != np.uint8 and not jax.numpy.issubdtype(image.dtype, jax.numpy.floating):
        raise UserError(
            f'batch["image"] is {image.dtype}; give uint8 RGB, or floats that are normalised by '
            "ImageNet's mean and standard deviation."
        )
    if image.ndim != 4 or image.shape[3] != 3 or label.shape != image.shape[:3]:
        raise UserError(
            f'batch["image"] has the shape {image.shape} and batch["label"] {label.shape}; give '
            "[b, h, w, 3] and [b, h, w]."
        )
    if not jax.numpy.issubdtype(label.dtype, jax.numpy.integer):
        raise UserError(
            f'batch["label"] is {label.dtype}; give whole numbers, such as '
            "label.astype(numpy.uint8)."
        )
    if isinstance(label, np.ndarray):
        _check_labels(label, num_classes)
        label = label.astype(np.uint8)
    return {"image": image, "label": label}


def _array(value: Any) -> np.ndarray | jax.Array:
    return value if isinstance(value, jax.Array) else np.asarray(value)


def _check_labels(label: np.ndarray, num_classes: int) -> None:
    wrong = label[((label < 0) | (label >= num_classes)) & (label != IGNORE_LABEL)]
    if not wrong.size:
        return
    values = np.unique(wrong)
    named = ", ".join(map(str, values[:_NAMED])) + (", …" if len(values) > _NAMED else "")
    cure = "Correct the labels, or create the model with more classes."
    if values.tolist() == [-1]:
        cure = "Where -1 means ignored, give numpy.where(label == -1, 255, label)."
    elif values.tolist() == [num_classes] and not (label == 0).any():
        cure = "Where classes count from 1, give numpy.where(label == 255, 255, label - 1)."
    raise UserError(
        f'batch["label"] holds {named}, and the model has '
        f"{counted(num_classes, 'class', 'classes')}: labels are 0 to {num_classes - 1}, and "
        f"{IGNORE_LABEL} for pixels to ignore. {cure}"
    )
