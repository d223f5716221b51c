"""The prediction of whole images as one function for images of any size, to be exported."""

import fractions
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from danet_jax.evaluation.full_size import full_logits
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.models.danet import DANet, standardize
from danet_jax.ops.resize import resize_bilinear

# (side, side) → one of them; both may be symbolic.
Sides = Callable[[Any, Any], Any]


def scaled_sides(
    settings: InferenceSettings,
    scale: float,
    height: Any,
    width: Any,
    *,
    smaller: Sides,
    larger: Sides,
) -> tuple[Any, Any]:
    """Returns height and width at a scale by whole numbers alone, so that they may be symbolic.

    They are those of `windows.scaled_size`; where a product is rounded, a side may differ by one.

    Args:
      settings: the settings of inference.
      scale: one of their scales.
      height: height of the image.
      width: width of the image.
      smaller: returns the smaller one of two sides.
      larger: returns the larger one.
    """
    short, long = smaller(height, width), larger(height, width)
    # Pairs of a length and the side of the image that is resized to it.
    limits = []
    if settings.short_side:
        limits.append((max(int(settings.short_side * scale), 1), short))
        if settings.base_size:
            limits.append((max(int(settings.base_size * scale), 1), long))
    elif settings.base_size:
        limits.append((math.ceil(settings.base_size * scale), long))
    else:
        # The decimal number that was written, 0.7, and not its nearest binary number.
        ratio = fractions.Fraction(str(scale))
        limits.append((-(-long * ratio.numerator // ratio.denominator), long))
    scaled = []
    for side in (height, width):
        allowed = [
            (2 * side * target + reference) // (2 * reference) for target, reference in limits
        ]
        # However narrow the image, one row or column is left.
        scaled.append(larger(functools.reduce(smaller, allowed), 1))
    return scaled[0], scaled[1]


def predict(
    model: DANet, variables: Any, image: jax.Array, settings: InferenceSettings
) -> dict[str, jax.Array]:
    """Returns "labels" [b, h, w] and "scores" [b, h, w, s] of uint8 images, as `Predictor` does.

    Args:
      model: the network.
      variables: its parameters.
      image: [b, h, w, 3], whose sizes may be symbolic.
      settings: whose mode is "whole" and whose merge is "softmax".
    """
    _, height, width, _ = image.shape
    if settings.is_single_pass:
        logits = full_logits(model, variables, image)
        labels, scores = jnp.argmax(logits, axis=-1), jax.nn.softmax(logits, axis=-1)
        return {"labels": labels.astype(jnp.uint8), "scores": scores}
    total: Any = 0.0
    for scale in settings.scales:
        x = image.astype(jnp.float32)
        if settings.size_field or scale != 1:
            size = scaled_sides(
                settings, scale, height, width, smaller=jax.core.min_dim, larger=jax.core.max_dim
            )
            x = resize_bilinear(x, size, align_corners=model.align_corners)
        scores = _scores(model, variables, standardize(x), settings)
        total += resize_bilinear(scores, (height, width), align_corners=model.align_corners)
    scores = total / len(settings.scales)
    return {"labels": jnp.argmax(scores, axis=-1).astype(jnp.uint8), "scores": scores}


def _scores(model: DANet, variables: Any, x: jax.Array, settings: InferenceSettings) -> jax.Array:
    views = [full_logits(model, variables, x)]
    if settings.flip:
        views.append(full_logits(model, variables, x[:, :, ::-1])[:, :, ::-1])
    probabilities = [jax.nn.softmax(logits, axis=-1) for logits in views]
    return sum(probabilities[1:], start=probabilities[0]) / len(views)
