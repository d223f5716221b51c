"""Batch normalisation by a map's own statistics, with little kept for the gradient."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.ops.recompute import wait_for_all
from danet_jax.ops.shards import ONE_DEVICE, Shards, divides, gather, over_devices, to_parts


def statistics(
    x: Float[Array, "b h w c"], shards: Shards = ONE_DEVICE
) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Returns mean and (biased) variance over batch and space, in at least float32.

    Several devices compute those of their parts and exchange them once; with the formula alone
    they would exchange sums for the mean and then, as the variance needs it, once more. The
    variance of all is the mean of the variances and the variance of the means (Chan, Golub and
    LeVeque 1979), which loses as little to rounding where the mean is large.

    Args:
      x: the map.
      shards: the devices that share it.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if not divides(x, shards):
        mean = jnp.mean(wide, axis=(0, 1, 2))
        return mean, jnp.mean(jnp.square(wide - mean[None, None, None]), axis=(0, 1, 2))
    # [m, i, n, j, w, c]
    parts = to_parts(wide, shards)
    means = jnp.mean(parts, axis=(1, 3, 4))
    deviations = parts - means[:, None, :, None, None]
    # What rounding has taken from each mean; where means are large it would spoil their variance.
    rests = jnp.mean(deviations, axis=(1, 3, 4))
    variances = jnp.mean(jnp.square(deviations), axis=(1, 3, 4)) - jnp.square(rests)
    # [m, n, 3, c] → [m n, 3, c]
    means, rests, variances = jnp.unstack(
        gather(jnp.stack([means, rests, variances], axis=2), shards), axis=1
    )
    middle = jnp.mean(means, axis=0)
    from_middle = means - middle[None] + rests
    shift = jnp.mean(from_middle, axis=0)
    between = jnp.mean(jnp.square(from_middle - shift[None]), axis=0)
    return middle + shift, jnp.mean(variances, axis=0) + between


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


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def normalize(
    x: Float[Array, "b h w c"],
    mean: Float[Array, " c"],
    var: Float[Array, " c"],
    scale: Float[Array, " c"],
    bias: Float[Array, " c"],
    epsilon: float,
    shards: Shards = ONE_DEVICE,
) -> Float[Array, "b h w c"]:
    """Returns x normalised by its own statistics, in the type of x, computed in at least float32.

    For the gradient x is kept and nothing else of its size; derived from the formula, it would
    keep x and x - mean.

    Args:
      x: the map.
      mean: of `statistics`; the gradient with respect to x is that of a mean which follows x.
      var: likewise.
      scale: of each channel.
      bias: of each channel.
      epsilon: added to the variance.
      shards: the devices that share x.
    """
    return scale_and_shift(x, mean, var, scale, bias, epsilon).astype(x.dtype)


def _forward(
    x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float, shards: Shards
) -> tuple[Array, tuple[Array, ...]]:
    y = scale_and_shift(x, mean, var, scale, bias, epsilon).astype(x.dtype)
    return y, (x, mean, var, scale)


def _backward(
    epsilon: float, shards: Shards, residuals: tuple[Array, ...], grad_y: Array
) -> tuple[Array | None, ...]:
    x, mean, var, scale = residuals
    # XLA would compute the normalised map during the forward pass, and keep it.
    x, grad_y = wait_for_all(x, grad_y)
    # Widened behind the barrier, before which arrays are stored: narrow ones are half as large.
    grad_y = grad_y.astype(jnp.promote_types(x.dtype, jnp.float32))
    count = x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + epsilon)
    normalized = (x.astype(grad_y.dtype) - mean[None, None, None]) * inverse[None, None, None]
    grad_bias, grad_scale = _sums(grad_y, grad_y * normalized, shards)
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


def _sums(x: Array, y: Array, shards: Shards) -> tuple[Array, Array]:
    """Sums over batch and space, in one exchange of the devices."""
    if not divides(x, shards):
        return jnp.sum(x, axis=(0, 1, 2)), jnp.sum(y, axis=(0, 1, 2))
    # [m, n, 2, c] → [m n, 2, c]
    sums = jnp.stack([jnp.sum(to_parts(z, shards), axis=(1, 3, 4)) for z in (x, y)], axis=2)
    both = jnp.sum(over_devices(sums, shards), axis=0)
    return both[0], both[1]


normalize.defvjp(_forward, _backward)
