"""A prediction from whole images as one function of an image of any size, to be exported."""

import fractions
from typing import Any

import jax
import jax.numpy as jnp

from danet_jax.evaluation.look import Look
from danet_jax.models.danet import DANet, full_logits, standardize
from danet_jax.models.resize import resize_bilinear


def scaled_sides(look: Look, scale: float, height: Any, width: Any, longest: Any) -> list[Any]:
    """Returns height and width at a scale by whole numbers alone, so that they may be symbolic.

    Args:
      look: the settings.
      scale: one of its scales.
      height: of the image.
      width: of the image.
      longest: the larger one of the two.
    """
    # As a person wrote it: 0.7 and not the binary number beside it.
    ratio = fractions.Fraction(str(scale))
    long_side = (look.base_size or longest) * ratio.numerator
    target = -(-long_side // ratio.denominator)
    # The nearest whole number of side * target / longest, as `windows.scaled_size` rounds it.
    return [(2 * side * target + longest) // (2 * longest) for side in (height, width)]


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
        if look.base_size or scale != 1:
            sides = scaled_sides(look, scale, height, width, jax.core.max_dim(height, width))
            # A sliver keeps one row.
            size: Any = tuple(jax.core.max_dim(side, 1) for side in sides)
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
