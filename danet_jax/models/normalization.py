"""Batch normalisation whose running statistics are PyTorch's, and without them for inference."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from danet_jax.models.recomputation import Pending, pending


class BatchNorm(nn.Module):
    """Normalises over batch and space, in float32 also where the compute type is narrower.

    Over a batch sharded across devices the sums are global, so this is synchronised batch norm.
    The running variance takes the unbiased estimate as torch.nn.BatchNorm2d does (Flax keeps the
    biased one), else running statistics drift from the reference's by n / (n - 1).

    With variables of `fold_batch_norm` it adds its bias and does nothing else.
    """

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"] | Pending,
        *,
        train: bool,
        then: Callable[[Array], Array] | None = None,
        as_pending: bool = False,
    ) -> Any:
        """Returns the normalised map [b, h, w, c].

        Args:
          x: the map; if it is pending, the gradient computes it anew.
          train: by the map's own statistics, else by the running ones.
          then: a function that follows.
          as_pending: return what is yet to be computed; for training.
        """
        source, x = pending(x), x.peek() if isinstance(x, Pending) else x
        channels = x.shape[-1]
        folded = not (
            self.is_initializing()
            or self.has_variable("params", "scale")
            or self.has_variable("batch_stats", "mean")
        )
        if folded:
            if train:
                raise ValueError("variables with folded batch norms cannot be trained")
            bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
            y = x + bias.astype(x.dtype)[None, None, None]
            return y if then is None else then(y)
        scale = self.param("scale", nn.initializers.ones, (channels,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), self.param_dtype)
        running_mean = self.variable(
            "batch_stats", "mean", lambda: jnp.zeros((channels,), jnp.float32)
        )
        running_var = self.variable(
            "batch_stats", "var", lambda: jnp.ones((channels,), jnp.float32)
        )

        def finish(y: Array) -> Array:
            y = y.astype(self.dtype)
            return y if then is None else then(y)

        if not train:
            y = _scaled(x, running_mean.value, running_var.value, scale, bias, self.epsilon)
            return finish(y)
        mean, var = statistics(jax.lax.stop_gradient(x))
        if not self.is_initializing():
            count = x.size // channels
            unbiased = var * (count / max(count - 1, 1))
            running_mean.value = _decayed(running_mean.value, mean, self.momentum)
            running_var.value = _decayed(running_var.value, unbiased, self.momentum)
        made = source.then(
            lambda x, *others: finish(normalize(x, *others, self.epsilon)), mean, var, scale, bias
        )
        if as_pending:
            return made
        if len(source.arguments) > 1:
            return made.value()
        return finish(normalize(x, mean, var, scale, bias, self.epsilon))


def statistics(x: Float[Array, "b h w c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Returns mean and variance over batch and space, in at least float32."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = jnp.mean(wide, axis=(0, 1, 2))
    return mean, jnp.mean(jnp.square(wide - mean[None, None, None]), axis=(0, 1, 2))


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
      mean: of `statistics`; the gradient by x is that of a mean which follows x.
      var: likewise.
      scale: of each channel.
      bias: of each channel.
      epsilon: added to the variance.
    """
    return _scaled(x, mean, var, scale, bias, epsilon)


def _scaled(x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    multiplier = scale * jax.lax.rsqrt(var + epsilon)
    # Centred before it is scaled: bias - mean * multiplier would cancel in the gradient.
    return (wide - mean[None, None, None]) * multiplier[None, None, None] + bias[None, None, None]


def _normalize_forward(
    x: Array, mean: Array, var: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[Array, tuple]:
    return _scaled(x, mean, var, scale, bias, epsilon), (x, mean, var, scale)


def _normalize_backward(
    epsilon: float, residuals: tuple, gradient: Array
) -> tuple[Array | None, ...]:
    x, mean, var, scale = residuals
    count = x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + epsilon)
    # The zeros say that it is not to be computed before there is a gradient: XLA would do so during
    # the forward pass, and keep it.
    wide = x.astype(gradient.dtype) + 0 * gradient
    normalized = (wide - mean[None, None, None]) * inverse[None, None, None]
    of_bias = jnp.sum(gradient, axis=(0, 1, 2))
    of_scale = jnp.sum(gradient * normalized, axis=(0, 1, 2))
    # What is left of the gradient where the mean and the variance follow x.
    left = gradient - (of_bias / count)[None, None, None]
    left -= normalized * (of_scale / count)[None, None, None]
    of_x = left * (scale * inverse)[None, None, None]
    of_scale, of_bias = of_scale.astype(scale.dtype), of_bias.astype(scale.dtype)
    return of_x.astype(x.dtype), None, None, of_scale, of_bias


normalize.defvjp(_normalize_forward, _normalize_backward)


def _decayed(running: Array, new: Array, momentum: float) -> Array:
    return momentum * running + (1 - momentum) * new


def fold_batch_norm(variables: dict[str, Any]) -> dict[str, Any]:
    """Returns variables that predict the same with batch norms folded into the convolutions.

    Each kernel takes over the factor of the norm behind it, of which a bias is left; there are no
    "batch_stats" any more.
    """
    return {"params": _folded(variables["params"], variables["batch_stats"])}


def _folded(params: dict[str, Any], statistics: dict[str, Any]) -> dict[str, Any]:
    folded = {
        name: _folded(value, statistics.get(name, {})) if isinstance(value, dict) else value
        for name, value in params.items()
    }
    for name, norm in params.items():
        if not isinstance(norm, dict) or "scale" not in norm:
            continue
        # "bn1" follows "conv1", "downsample_bn" follows "downsample_conv".
        conv = name.replace("bn", "conv")
        scale, bias, mean, var, kernel = (
            np.asarray(array, np.float64)
            for array in (
                norm["scale"],
                norm["bias"],
                statistics[name]["mean"],
                statistics[name]["var"],
                params[conv]["kernel"],
            )
        )
        factor = scale / np.sqrt(var + BatchNorm.epsilon)
        dtype = norm["scale"].dtype
        folded[conv] = {"kernel": jnp.asarray(kernel * factor, dtype)}
        folded[name] = {"bias": jnp.asarray(bias - mean * factor, dtype)}
    return folded
