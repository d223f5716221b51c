"""Arrays that the gradient computes anew in place of keeping them."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from danet_jax import parallel


class Pending(NamedTuple):
    """An array that is yet to be computed: by a pure function, from arguments that are kept anyway.

    Modules take one for their input, so that one `value` spans what is cheap to compute anew, and
    only what is dear (a convolution's output) is kept.
    """

    function: Callable[..., Array]
    # The first is an activation, the others are what it is computed with.
    arguments: tuple[Array, ...]
    # Index of the argument that is told to wait for the gradient.
    waiting: int = 0

    def then(
        self, function: Callable[..., Array], *more: Array, waiting: int | None = None
    ) -> "Pending":
        """Returns function(this array, *more), pending; `waiting` counts all its arguments."""
        inner, count = self.function, len(self.arguments)

        def composed(*arguments: Array) -> Array:
            return function(inner(*arguments[:count]), *arguments[count:])

        return Pending(
            composed, (*self.arguments, *more), self.waiting if waiting is None else waiting
        )

    def value(self) -> Array:
        """Computes it; its gradient computes it again from the arguments."""
        return _recomputed(self.function, self.waiting, *self.arguments)

    def peek(self) -> Array:
        """Computes it without a gradient: for statistics, whose part in it is elsewhere."""
        return self.function(*map(jax.lax.stop_gradient, self.arguments))


def after(x: Array, *others: Array) -> Array:
    """Returns x, as something that on CPU is not there before the others are.

    XLA's scheduler would compute parameters' gradients last of all, as each only adds to what is
    held, and until then hold all that they are computed from.
    """
    if parallel.platform() == "cpu":
        for other in others:
            # Of a kernel one number of each tap, or a part of the taps would be computed alone.
            some = other[..., 0, 0] if other.ndim > 2 else other
            x = x + 0 * jnp.sum(some).astype(x.dtype)
    return x


def pending(x: Array | Pending) -> Pending:
    """Returns an array as one that is pending."""
    return x if isinstance(x, Pending) else Pending(lambda x: x, (x,))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _recomputed(function: Callable[..., Array], waiting: int, *arguments: Array) -> Array:
    return function(*arguments)


def _forward(
    function: Callable[..., Array], waiting: int, *arguments: Array
) -> tuple[Array, tuple[Array, ...]]:
    return function(*arguments), arguments


def _backward(
    function: Callable[..., Array], waiting: int, arguments: tuple[Array, ...], gradient: Array
) -> tuple[Array, ...]:
    # With `jax.checkpoint` XLA on CPU would find that both are the same and compute it once, that
    # is, keep it. This makes another computation of it, and not before there is a gradient.
    changed = list(arguments)
    if parallel.platform() == "cpu":
        changed[waiting] = after(arguments[waiting], gradient)
    else:
        changed, gradient = jax.lax.optimization_barrier((changed, gradient))
    _, transposed = jax.vjp(function, *changed)
    of_first, *of_others = transposed(gradient)
    return after(of_first, *of_others), *of_others


_recomputed.defvjp(_forward, _backward)
