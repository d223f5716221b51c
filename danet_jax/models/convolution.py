"""Convolution with PyTorch's padding, and matrix products where XLA's convolutions are slow."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.models import winograd

# He initialisation over outputs, as the original's backbone.
BACKBONE_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Variables of convolutions that Winograd's algorithm computes, and the fewest channels for which it
# is the faster one on CPU.
WINOGRAD = "winograd"
WINOGRAD_CHANNELS = 64
# uniform(±1/sqrt(fan_in)), torch's default, which the original's head keeps.
HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    *,
    stride: int = 1,
    dilation: int = 1,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves with zero padding of dilation * (k - 1) / 2 on each side."""
    if kernel.shape[:2] == (1, 1):
        # XLA's weight gradient of a 1x1 convolution runs at a third of a product's speed on CPU.
        # Not by indexing, whose symbolic sizes `jax.export` cannot tell to be a convolution's.
        x = jax.lax.slice(x, (0, 0, 0, 0), x.shape, (1, stride, stride, 1))
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
        return y.reshape(*x.shape[:3], -1)
    return _convolve(x, kernel, stride, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    return _native(x, kernel, stride, dilation)


def _native(x: Array, kernel: Array, stride: int, dilation: int) -> Array:
    pads = [dilation * (size - 1) // 2 for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(pad, pad) for pad in pads],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(x: Array, kernel: Array, stride: int, dilation: int) -> tuple[Array, tuple]:
    return _native(x, kernel, stride, dilation), (x, kernel)


def _backward(stride: int, dilation: int, residuals: tuple, gradient: Array) -> tuple[Array, Array]:
    """Native input gradient; weight gradient as one product of two matrices for each tap.

    XLA computes the weight gradient as a convolution whose kernel is the whole feature map: at
    half the products' speed on CPU, and not matched by cuDNN where dilation is above 1.
    """
    x, kernel = residuals
    (input_gradient,) = jax.linear_transpose(lambda x: _native(x, kernel, stride, dilation), x)(
        gradient
    )
    kernel_height, kernel_width, channels, features = kernel.shape
    pads = [dilation * (size - 1) // 2 for size in (kernel_height, kernel_width)]
    padded = jnp.pad(x, ((0, 0), (pads[0],) * 2, (pads[1],) * 2, (0, 0)))
    height, width = gradient.shape[1:3]
    columns = gradient.reshape(-1, features)
    taps = []
    for row in range(kernel_height):
        for column in range(kernel_width):
            top, left = row * dilation, column * dilation
            seen = padded[
                :,
                top : top + (height - 1) * stride + 1 : stride,
                left : left + (width - 1) * stride + 1 : stride,
            ]
            rows = seen.reshape(-1, channels)
            taps.append(
                jnp.matmul(
                    rows.T, columns, preferred_element_type=jnp.promote_types(x.dtype, jnp.float32)
                )
            )
    return input_gradient, jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)


class Conv(nn.Module):
    """A square convolution; kernel [k, k, c, features], optional bias [features].

    With variables of `with_winograd_kernels` it is computed by Winograd's algorithm.
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: Callable = BACKBONE_INIT

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        channels = x.shape[-1]
        x = x.astype(self.dtype)
        if self.has_variable(WINOGRAD, "kernel"):
            points: Array = self.get_variable(WINOGRAD, "kernel").astype(self.dtype)
            if winograd.is_worthwhile(x.shape[1], x.shape[2], dilation=self.dilation):
                y = winograd.winograd_convolve(x, points, dilation=self.dilation)
            else:
                y = convolve(x, winograd.restore_kernel(points), dilation=self.dilation)
        else:
            shape = (self.kernel_size, self.kernel_size, channels, self.features)
            kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
            asked = self.is_mutable_collection(WINOGRAD) and not self.is_initializing()
            if asked and self.stride == 1 and _suits_winograd(shape):
                self.put_variable(WINOGRAD, "kernel", winograd.transform_kernel(kernel))
            y = convolve(x, kernel.astype(self.dtype), stride=self.stride, dilation=self.dilation)
        if self.use_bias:
            fan_in = self.kernel_size**2 * channels
            bias = self.param("bias", _uniform_bias(fan_in), (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)[None, None, None]
        return y


def _uniform_bias(fan_in: int) -> Callable:
    bound = fan_in**-0.5
    return lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)


def _suits_winograd(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[:2] == (3, 3) and min(shape[2:]) >= WINOGRAD_CHANNELS


def with_winograd_kernels(model: nn.Module, variables: dict[str, Any]) -> dict[str, Any]:
    """Returns variables that predict the same, with kernels transformed once for all images.

    For inference on CPU: the 3x3 convolutions with enough channels then take half the time.

    Args:
      model: applied to images, of which its convolutions make no use here.
      variables: with "params"; no "winograd" yet.
    """
    if not any(_suits_winograd(array.shape) for array in jax.tree.leaves(variables["params"])):
        return variables

    transformed = _transformed(model, variables)
    params = _without_kernels(variables["params"], transformed)
    return variables | {"params": params, WINOGRAD: transformed}


@functools.partial(jax.jit, static_argnums=0)
def _transformed(model: nn.Module, variables: dict[str, Any]) -> dict[str, Any]:
    # All but the kernels is computed for nothing, which XLA sees and leaves out.
    image = jnp.zeros((1, 32, 32, 3), jnp.float32)
    return model.apply(variables, image, train=False, mutable=[WINOGRAD])[1][WINOGRAD]


def _without_kernels(params: dict[str, Any], transformed: dict[str, Any]) -> dict[str, Any]:
    left = {}
    for name, value in params.items():
        if name not in transformed:
            left[name] = value
        elif isinstance(value, dict):
            left[name] = _without_kernels(value, transformed[name])
    return left
