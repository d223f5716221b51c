"""The sum and ReLU at the end of a residual block."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def residual_relu(
    x: Float[Array, "b h w d"], y: Float[Array, "b h w d"], materialized: bool
) -> Float[Array, "b h w d"]:
    """Returns relu(x + y), whose gradient reads the output alone; the next block keeps that anyway.

    Args:
      x: the block's input, or its projection.
      y: the residual.
      materialized: compute the output once and store it. XLA would otherwise compute the sum again
        wherever it is read, and for that keep the residuals of all blocks of a layer: half the
        memory of a large image.
    """
    output = jax.nn.relu(x + y)
    return jax.lax.optimization_barrier(output) if materialized else output


def _forward(x: Array, y: Array, materialized: bool) -> tuple[Array, Array]:
    output = residual_relu(x, y, materialized)
    return output, output


def _backward(materialized: bool, output: Array, gradient: Array) -> tuple[Array, Array]:
    grad_x = jnp.where(output != 0, gradient, 0)
    return grad_x, grad_x


residual_relu.defvjp(_forward, _backward)
