"""Convolution with PyTorch's padding, and matrix products where XLA's convolutions are slow."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax import parallel
from danet_jax.models import winograd
from danet_jax.models.recomputation import Pending, after, pending

# He initialisation over outputs, as the original's backbone.
BACKBONE_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Variables of convolutions that Winograd's algorithm computes, and the fewest channels for which it
# is the faster one on CPU.
WINOGRAD = "winograd"
WINOGRAD_CHANNELS = 64
# The fewest for which its weight gradient is, too.
WINOGRAD_GRADIENT_CHANNELS = 128
# uniform(±1/sqrt(fan_in)), torch's default, which the original's head keeps.
HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    *,
    stride: int = 1,
    dilation: int = 1,
    weight_gradient: str = "auto",
) -> Float[Array, "b h2 w2 d"]:
    """Convolves with zero padding of dilation * (k - 1) / 2 on each side.

    Args:
      x: the map.
      kernel: of an odd size.
      stride: of the output.
      dilation: distance of the taps.
      weight_gradient: one of WEIGHT_GRADIENTS; all give the same but for rounding. "auto" also
        chooses the algorithm of the convolution itself.
    """
    if kernel.shape[:2] == (1, 1) and stride == 1:
        # XLA's weight gradient of a 1x1 convolution runs at a third of a product's speed on CPU.
        # With a stride the product would read a slice, of which XLA's compiler for GPUs makes one
        # kernel and aborts (jax 0.10 and 0.11: "triton_tiling_propagation.cc Check failed").
        y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
        return y.reshape(*x.shape[:3], -1)
    return _convolve(x, kernel, stride, dilation, weight_gradient)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(x: Array, kernel: Array, stride: int, dilation: int, weight_gradient: str) -> Array:
    return _forward(x, kernel, stride, dilation, weight_gradient)[0]


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


def _forward(
    x: Array, kernel: Array, stride: int, dilation: int, weight_gradient: str
) -> tuple[Array, tuple]:
    if _trains_by_winograd(x, kernel, stride, dilation, weight_gradient):
        y = winograd.winograd_convolve(x, winograd.kernel_rows(kernel), dilation=dilation)
    else:
        y = _native(x, kernel, stride, dilation)
    return y, (x, kernel)


def _backward(
    stride: int, dilation: int, weight_gradient: str, residuals: tuple, gradient: Array
) -> tuple[Array, Array]:
    x, kernel = residuals
    by_winograd = _trains_by_winograd(x, kernel, stride, dilation, weight_gradient)
    if by_winograd:
        # The convolution of the gradient with the kernel turned round.
        turned = winograd.kernel_rows(kernel, turned=True)
        input_gradient = winograd.winograd_convolve(
            gradient, turned, dilation=dilation, transposed=True
        )
    else:
        transposed = jax.linear_transpose(lambda x: _native(x, kernel, stride, dilation), x)
        (input_gradient,) = transposed(gradient)
    if by_winograd and min(kernel.shape[2:]) >= WINOGRAD_GRADIENT_CHANNELS:
        method = winograd_gradient
    else:
        method = _METHODS[_chosen(weight_gradient, stride, dilation)]
    of_kernel = method(x, kernel.shape, gradient, stride=stride, dilation=dilation)
    return after(input_gradient, of_kernel), of_kernel.astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)


def _trains_by_winograd(
    x: Array, kernel: Array, stride: int, dilation: int, weight_gradient: str
) -> bool:
    return (
        weight_gradient == "auto"
        and parallel.platform() == "cpu"
        # Tiles of rows that lie on several devices would be gathered.
        and parallel.shares()[1] == 1
        and stride == 1
        and x.dtype == jnp.float32
        # `jax.export` leaves sizes open.
        and all(isinstance(size, int) for size in x.shape)
        and _suits_winograd(kernel.shape)
        and winograd.is_worthwhile(x.shape[1], x.shape[2], dilation=dilation)
    )


def _chosen(weight_gradient: str, stride: int, dilation: int) -> str:
    """The method of the weight gradient."""
    on_cpu = parallel.platform() == "cpu"
    if stride > 1 and not on_cpu:
        # The products of "einsum" would read slices with a stride, as in `convolve`.
        return "native"
    if weight_gradient != "auto":
        return weight_gradient
    if parallel.shares()[1] > 1:
        # Rows that lie on several devices stay there.
        return "native"
    # Where the dilation is 1, cuDNN and TPUs have an algorithm of their own.
    return "einsum" if on_cpu or dilation > 1 else "native"


def native_gradient(
    x: Array, shape: tuple[int, ...], gradient: Array, *, stride: int, dilation: int
) -> Array:
    """XLA's: a convolution whose kernel is the whole feature map.

    At half of the products' speed on CPU, and not matched by cuDNN where the dilation is above 1.
    """
    kernel = jax.ShapeDtypeStruct(shape, x.dtype)
    transposed = jax.linear_transpose(lambda kernel: _native(x, kernel, stride, dilation), kernel)
    return transposed(gradient)[0]


def einsum_gradient(
    x: Array, shape: tuple[int, ...], gradient: Array, *, stride: int, dilation: int
) -> Array:
    """One product of two matrices for each tap."""
    kernel_height, kernel_width, channels, features = shape
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
    return jnp.stack(taps).reshape(shape)


def space_to_batch_gradient(
    x: Array, shape: tuple[int, ...], gradient: Array, *, stride: int, dilation: int
) -> Array:
    """XLA's without dilation: every dilation-th pixel makes a map of its own."""
    if stride > 1 or dilation == 1:
        return native_gradient(x, shape, gradient, stride=stride, dilation=dilation)
    x, gradient = (_to_batch(array, dilation) for array in (x, gradient))
    return native_gradient(x, shape, gradient, stride=1, dilation=1)


def _to_batch(x: Array, step: int) -> Array:
    """[b, h, w, c] → [step step b, h / step, w / step, c], filled up with zeros."""
    b, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, -h % step), (0, -w % step), (0, 0)))
    # [b, m, r, n, s, c], two axes at a time.
    x = x.reshape(b, -1, step, x.shape[2], c)
    x = jnp.moveaxis(x, 2, 0).reshape(step * b, -1, x.shape[3], c)
    x = x.reshape(step * b, x.shape[1], -1, step, c)
    return jnp.moveaxis(x, 3, 0).reshape(step * step * b, *x.shape[1:3], c)


def winograd_gradient(
    x: Array, shape: tuple[int, ...], gradient: Array, *, stride: int, dilation: int
) -> Array:
    """16 products in place of 36, of the transformed map and the transformed gradient."""
    assert stride == 1, "tiles have no stride"
    assert shape[:2] == (3, 3), "there are points for three taps"
    return winograd.winograd_kernel_gradient(x, gradient, dilation=dilation)


_METHODS = {
    "native": native_gradient,
    "einsum": einsum_gradient,
    "space_to_batch": space_to_batch_gradient,
}
WEIGHT_GRADIENTS = ("auto", *_METHODS)


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
    weight_gradient: str = "auto"
    kernel_init: Callable = BACKBONE_INIT

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"] | Pending, *, as_pending: bool = False) -> Any:
        """Returns the convolved map [b, h2, w2, d].

        Args:
          x: the map; if it is pending, the gradient computes it anew.
          as_pending: return what is yet to be computed; for training.
        """
        if as_pending or isinstance(x, Pending):
            made = self._pending(pending(x))
            return made if as_pending else made.value()
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
            y = convolve(
                x,
                kernel.astype(self.dtype),
                stride=self.stride,
                dilation=self.dilation,
                weight_gradient=self.weight_gradient,
            )
        if self.use_bias:
            fan_in = self.kernel_size**2 * channels
            bias = self.param("bias", _uniform_bias(fan_in), (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)[None, None, None]
        return y

    def _pending(self, x: Pending) -> Pending:
        assert not self.use_bias, "none of the backbone's has one"
        channels = jax.eval_shape(x.function, *x.arguments).shape[-1]
        shape = (self.kernel_size, self.kernel_size, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)

        def convolved(x: Array, kernel: Array) -> Array:
            return convolve(
                x.astype(self.dtype),
                kernel.astype(self.dtype),
                stride=self.stride,
                dilation=self.dilation,
                weight_gradient=self.weight_gradient,
            )

        # Of a map that is there: to let it wait would make another array of it.
        return x.then(convolved, kernel, waiting=1 if len(x.arguments) == 1 else None)


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
