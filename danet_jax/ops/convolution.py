"""Convolution with PyTorch's padding, by XLA's convolutions, by products or by Winograd."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.ops import weight_gradient, winograd
from danet_jax.ops.implementation import NATIVE, Implementation
from danet_jax.ops.recompute import wait_for_all
from danet_jax.ops.weight_gradient import native_convolution

# The fewest channels for which Winograd's algorithm is the faster one on CPU, and for which its
# weight gradient is, too.
WINOGRAD_CHANNELS = 64
WINOGRAD_GRADIENT_CHANNELS = 128


def convolve(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    *,
    stride: int = 1,
    dilation: int = 1,
    implementation: Implementation = NATIVE,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves with zero padding of dilation * (k - 1) / 2 on each side.

    Args:
      x: the map.
      kernel: of an odd size; or one of `winograd.transform_kernel`, for inference.
      stride: of the window over the input.
      dilation: spacing of the taps.
      implementation: the form of the convolution and of its gradients.
    """
    if kernel.shape[:2] == (4, 4):
        if winograd.is_worthwhile(x.shape[1], x.shape[2], dilation=dilation):
            return winograd.winograd_convolve(x, kernel, dilation=dilation)
        kernel = winograd.restore_kernel(kernel)
    return _convolve(x, kernel, stride, dilation, implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(
    x: Array, kernel: Array, stride: int, dilation: int, implementation: Implementation
) -> Array:
    if _is_product(kernel, stride):
        return _product(x, kernel)
    if _is_by_winograd(x, kernel, stride, dilation, implementation):
        return winograd.winograd_convolve(x, winograd.kernel_rows(kernel), dilation=dilation)
    y = native_convolution(x, kernel, stride, dilation)
    # Without the barrier a TPU carries the form in which it computes a convolution of few images,
    # many small maps, into the norm that reads it, with copies in float32.
    return wait_for_all(y)[0] if implementation.stored_convolutions else y


def _is_product(kernel: Array, stride: int) -> bool:
    """True for 1x1 convolutions.

    XLA computes their weight gradient at a third of a product's speed on CPU.

    With a stride the product would read a slice, of which XLA's compiler for GPUs makes one kernel
    and aborts (jax 0.10 and 0.11: "triton_tiling_propagation.cc Check failed").
    """
    return kernel.shape[:2] == (1, 1) and stride == 1


def _product(x: Array, kernel: Array) -> Array:
    y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return y.reshape(*x.shape[:3], -1)


def _forward(
    x: Array, kernel: Array, stride: int, dilation: int, implementation: Implementation
) -> tuple[Array, tuple[Array, Array]]:
    return _convolve(x, kernel, stride, dilation, implementation), (x, kernel)


def _backward(
    stride: int,
    dilation: int,
    implementation: Implementation,
    residuals: tuple[Array, Array],
    grad_y: Array,
) -> tuple[Array, Array]:
    x, kernel = residuals
    if _is_product(kernel, stride):
        grad_x, grad_kernel = jax.vjp(_product, x, kernel)[1](grad_y)
    else:
        by_winograd = _is_by_winograd(x, kernel, stride, dilation, implementation)
        if by_winograd:
            # The convolution of the gradient with the kernel rotated by half a turn.
            rotated = winograd.kernel_rows(kernel, rotated=True)
            grad_x = winograd.winograd_convolve(grad_y, rotated, dilation=dilation, transposed=True)
        else:
            transposed = jax.linear_transpose(
                lambda x: native_convolution(x, kernel, stride, dilation), x
            )
            (grad_x,) = transposed(grad_y)
        if by_winograd and min(kernel.shape[2:]) >= WINOGRAD_GRADIENT_CHANNELS:
            grad_kernel = winograd.winograd_kernel_gradient(x, grad_y, dilation=dilation)
        else:
            gradient = weight_gradient.IMPLEMENTATIONS[
                _weight_gradient(stride, dilation, implementation)
            ]
            grad_kernel = gradient(x, grad_y, kernel.shape, stride=stride, dilation=dilation)
    grad_kernel = grad_kernel.astype(kernel.dtype)
    if implementation.ordered_gradients:
        grad_x, grad_kernel = wait_for_all(grad_x, grad_kernel)
    return grad_x, grad_kernel


_convolve.defvjp(_forward, _backward)


def _is_by_winograd(
    x: Array, kernel: Array, stride: int, dilation: int, implementation: Implementation
) -> bool:
    return (
        implementation.convolution == "winograd"
        and x.dtype == jnp.float32
        # `jax.export` leaves sizes open.
        and all(isinstance(size, int) for size in x.shape)
        and suits_winograd(kernel.shape, stride=stride)
        and winograd.is_worthwhile(x.shape[1], x.shape[2], dilation=dilation)
    )


def suits_winograd(shape: tuple[int, ...], *, stride: int) -> bool:
    """True for kernels of a convolution for which Winograd's algorithm exists and is fast."""
    return shape[:2] == (3, 3) and stride == 1 and min(shape[2:]) >= WINOGRAD_CHANNELS


def _weight_gradient(stride: int, dilation: int, implementation: Implementation) -> str:
    if stride > 1:
        return implementation.strided_weight_gradient
    if dilation > 1:
        return implementation.dilated_weight_gradient
    return implementation.weight_gradient
