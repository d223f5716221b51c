"""Batch normalisation by a map's own statistics, with little kept for the gradient."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.ops.recompute import wait_for_all


def statistics(x: Float[Array, "b h w c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Returns mean and (biased) variance over batch and space, in at least float32."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(wide, axis=(0, 1, 2))
    return mean, jnp.mean(jnp.square(wide - mean[None, None, None]), axis=(0, 1, 2))


def scale_and_shift(
    x: Float[Array, "b h w c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
) -> Float[Array, "b h w c"]:
    """Returns (x - mean) / sqrt(var + epsilon) * scale + bias, in at least float32."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    multiplier = scale * jax.lax.rsqrt(var + epsilon)
    # Centred before it is scaled: bias - mean * multiplier would cancel in the gradient.
    return (wide - mean[None, None, None]) * multiplier[None, None, None] + bias[None, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def normalize(
    x: Float[Array, "b h w c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
) -> Float[Array, "b h w c"]:
    """Returns x normalised by its own statistics, in at least float32.

    For the gradient x is kept and nothing else of its size; derived from the formula, it would
    keep x and x - mean.

    Args:
      x: the map.
      mean: of `statistics`; the gradient with respect to x is that of a mean which follows x.
      var: likewise.
      scale: of each channel.
      bias: of each channel.
      epsilon: added to the variance.
    """
    return scale_and_shift(x, mean, var, scale, bias, epsilon)


def _forward(
    x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[Array, tuple[Array, ...]]:
    return scale_and_shift(x, mean, var, scale, bias, epsilon), (x, mean, var, scale)


def _backward(
    epsilon: float, residuals: tuple[Array, ...], grad_y: Array
) -> tuple[Array | None, ...]:
    x, mean, var, scale = residuals
    # XLA would compute the normalised map during the forward pass, and keep it.
    x, grad_y = wait_for_all(x, grad_y)
    count = x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + epsilon)
    normalized = (x.astype(grad_y.dtype) - mean[None, None, None]) * inverse[None, None, None]
    grad_bias = jnp.sum(grad_y, axis=(0, 1, 2))
    grad_scale = jnp.sum(grad_y * normalized, axis=(0, 1, 2))
    # The mean and the variance follow x, and take their part of the gradient away.
    grad_normalized = grad_y - (grad_bias / count)[None, None, None]
    grad_normalized -= normalized * (grad_scale / count)[None, None, None]
    grad_x = grad_normalized * (scale * inverse)[None, None, None]
    return (
        grad_x.astype(x.dtype),
        None,
        None,
        grad_scale.astype(scale.dtype),
        grad_bias.astype(scale.dtype),
    )


normalize.defvjp(_forward, _backward)
