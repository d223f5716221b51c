"""The arithmetic of a traced function: of its convolutions and products, which take nearly all."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core


def count_operations(function: Callable[..., Any], *args: Any) -> int:
    """Returns the multiplications and additions of a function's convolutions and products.

    Each multiplication with its addition counts as two. What convolutions multiply with padding, or
    with zeros between an input's values, is left out; what a gradient computes anew is counted
    again, and each round of a loop.

    Args:
      function: to be traced.
      *args: its arguments, or their shapes.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        match equation.primitive.name:
            case "conv_general_dilated":
                total += _of_convolution(equation)
            case "dot_general":
                total += _of_product(equation)
            case "cond":
                total += max(_count(branch.jaxpr) for branch in equation.params["branches"])
            case "scan":
                total += equation.params["length"] * _count(equation.params["jaxpr"].jaxpr)
            case _:
                total += sum(map(_count, _inner(equation.params)))
    return total


def _inner(params: Any) -> Iterator[core.Jaxpr]:
    """The functions that an equation calls."""
    for value in params.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _shapes(equation: core.JaxprEqn) -> list[tuple[int, ...]]:
    """Of its operands, and then of its results."""
    variables: list[Any] = [*equation.invars, *equation.outvars]
    return [variable.aval.shape for variable in variables]


def _of_product(equation: core.JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left, _, result = _shapes(equation)
    return 2 * math.prod(result) * math.prod(left[axis] for axis in contracted)


def _of_convolution(equation: core.JaxprEqn) -> int:
    params = equation.params
    x, kernel, y = _shapes(equation)
    x_axes, kernel_axes, y_axes = params["dimension_numbers"]
    pairs = [
        _pairs(x[x_axes[axis]], kernel[kernel_axes[axis]], y[y_axes[axis]], *rest)
        for axis, *rest in zip(
            range(2, len(x_axes)),
            params["window_strides"],
            params["lhs_dilation"],
            params["rhs_dilation"],
            (low for low, _ in params["padding"]),
            strict=True,
        )
    ]
    # The kernel's own input channels are those of one group.
    channels = y[y_axes[1]] * kernel[kernel_axes[1]]
    return 2 * y[y_axes[0]] * channels * math.prod(pairs)


def _pairs(
    size: int, taps: int, outputs: int, stride: int, x_dilation: int, dilation: int, low: int
) -> int:
    """How many pairs of an output and a tap meet a value of the input, along one axis."""
    place = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - low
    inside = (place >= 0) & (place <= (size - 1) * x_dilation) & (place % x_dilation == 0)
    return int(inside.sum())
