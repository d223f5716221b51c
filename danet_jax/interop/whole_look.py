"""A prediction from whole images as one function of an image of any size, to be exported."""

import fractions
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from danet_jax.evaluation.full_size import full_logits
from danet_jax.evaluation.look import Look
from danet_jax.models.danet import DANet, standardize
from danet_jax.ops.resize import resize_bilinear

# Of two sides, which may be symbolic, one.
Sides = Callable[[Any, Any], Any]


def scaled_sides(
    look: Look, scale: float, height: Any, width: Any, *, smaller: Sides, larger: Sides
) -> tuple[Any, Any]:
    """Returns height and width at a scale by whole numbers alone, so that they may be symbolic.

    They are those of `windows.scaled_size`; where a product is rounded, a side may differ by one.

    Args:
      look: the settings.
      scale: one of its scales.
      height: of the image.
      width: of the image.
      smaller: returns the smaller one of two sides.
      larger: returns the larger one.
    """
    short, long = smaller(height, width), larger(height, width)
    # What becomes of which side of the image.
    limits = []
    if look.short_side:
        limits.append((max(int(look.short_side * scale), 1), short))
        if look.base_size:
            limits.append((max(int(look.base_size * scale), 1), long))
    elif look.base_size:
        limits.append((math.ceil(look.base_size * scale), long))
    else:
        # As a person wrote it: 0.7 and not the binary number beside it.
        ratio = fractions.Fraction(str(scale))
        limits.append((-(-long * ratio.numerator // ratio.denominator), long))
    found = []
    for side in (height, width):
        allowed = [(2 * side * target + of) // (2 * of) for target, of in limits]
        # A sliver keeps one row.
        found.append(larger(functools.reduce(smaller, allowed), 1))
    return found[0], found[1]


def predict(model: DANet, variables: Any, image: jax.Array, look: Look) -> dict[str, jax.Array]:
    """Returns "labels" [b, h, w] and "scores" [b, h, w, s] of uint8 images, as `Predictor` does.

    Args:
      model: the network.
      variables: its parameters.
      image: [b, h, w, 3], whose sizes may be symbolic.
      look: at whole images, merged by "softmax".
    """
    _, height, width, _ = image.shape
    if look.is_plain:
        logits = full_logits(model, variables, image)
        labels, scores = jnp.argmax(logits, axis=-1), jax.nn.softmax(logits, axis=-1)
        return {"labels": labels.astype(jnp.uint8), "scores": scores}
    total: Any = 0.0
    for scale in look.scales:
        x = image.astype(jnp.float32)
        if look.size_field or scale != 1:
            size = scaled_sides(
                look, scale, height, width, smaller=jax.core.min_dim, larger=jax.core.max_dim
            )
            x = resize_bilinear(x, size, align_corners=model.align_corners)
        found = _scores(model, variables, standardize(x), look)
        total += resize_bilinear(found, (height, width), align_corners=model.align_corners)
    scores = total / len(look.scales)
    return {"labels": jnp.argmax(scores, axis=-1).astype(jnp.uint8), "scores": scores}


def _scores(model: DANet, variables: Any, x: jax.Array, look: Look) -> jax.Array:
    views = [full_logits(model, variables, x)]
    if look.flip:
        views.append(full_logits(model, variables, x[:, :, ::-1])[:, :, ::-1])
    probabilities = [jax.nn.softmax(logits, axis=-1) for logits in views]
    return sum(probabilities[1:], start=probabilities[0]) / len(views)
