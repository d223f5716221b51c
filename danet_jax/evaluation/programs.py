"""What is compiled to predict: labels and probabilities of whole images, scores of windows."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from danet_jax.evaluation.full_size import full_labels, full_logits, labels_by_rows
from danet_jax.evaluation.inference import Program
from danet_jax.evaluation.padding import Inside, enlarged, mirrored, padded_logits
from danet_jax.models.danet import DANet

ImageArray = UInt8[Array, "b h w 3"] | Float[Array, "b h w 3"]


def _logits(
    model: DANet, variables: Any, images: ImageArray, inside: Inside | None
) -> Float[Array, "b h w s"]:
    """Logits at the images' size, of padded ones at their shape's."""
    if inside is None:
        return full_logits(model, variables, images)
    logits = padded_logits(model, variables, images, jnp.asarray(inside.size))
    return enlarged(logits, inside, form=model.implementation.resize)


def _labels(
    model: DANet, variables: Any, images: ImageArray, inside: Inside | None
) -> UInt8[Array, "b h w"]:
    if inside is None:
        return full_labels(model, variables, images)
    logits = padded_logits(model, variables, images, jnp.asarray(inside.size))
    return labels_by_rows(
        logits,
        jnp.asarray(inside.rows),
        jnp.asarray(inside.columns),
        form=model.implementation.resize,
    )


def _probabilities(
    model: DANet, variables: Any, images: ImageArray, inside: Inside | None
) -> Float[Array, "b h w s"]:
    return jax.nn.softmax(_logits(model, variables, images, inside), axis=-1)


def _window_scores(
    model: DANet,
    variables: Any,
    windows: ImageArray,
    inside: Inside | None,
    *,
    flip: bool,
    merge: str,
) -> Float[Array, "b h w s"]:
    """Returns the scores of normalised windows at their own size."""

    def scores(windows):
        logits = _logits(model, variables, windows, inside)
        return logits if merge == "original" else jax.nn.softmax(logits, axis=-1)

    found = scores(windows)
    if not flip:
        return found
    # A barrier keeps one pass's memory from the other's.
    found, windows = jax.lax.optimization_barrier((found, windows))
    size = None if inside is None else jnp.asarray(inside.size)
    turned = mirrored(scores(mirrored(windows, size)), size)
    return found + turned if merge == "original" else (found + turned) / 2


window_scores = Program(_window_scores, static=("model", "flip", "merge"))
whole_probabilities = Program(_probabilities, static=("model",))
whole_labels = Program(_labels, static=("model",))
