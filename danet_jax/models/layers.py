"""Convolution and batch norm as Flax modules that compute what PyTorch's do."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from danet_jax.ops.batch_norm import normalize, scale_and_shift, statistics
from danet_jax.ops.convolution import convolve, suits_winograd
from danet_jax.ops.implementation import NATIVE, Implementation
from danet_jax.ops.recompute import keep

# He initialisation over outputs, as the original's backbone.
BACKBONE_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# uniform(±1/sqrt(fan_in)), torch's default, which the original's head keeps.
HEAD_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
    """A square convolution; kernel [k, k, c, features], optional bias [features].

    A kernel that `implementation.winograd_kernels` stores transformed is [4, 4, c, features].
    """

    features: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    implementation: Implementation = NATIVE
    kernel_init: Callable = BACKBONE_INIT

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        channels = x.shape[-1]
        shape = (self.kernel_size, self.kernel_size, channels, self.features)
        if self.implementation.winograd_kernels and suits_winograd(shape, stride=self.stride):
            shape = (4, 4, channels, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = convolve(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            stride=self.stride,
            dilation=self.dilation,
            implementation=self.implementation,
        )
        if self.use_bias:
            bound = (self.kernel_size**2 * channels) ** -0.5
            bias = self.param("bias", _uniform(bound), (self.features,))
            y = y + bias.astype(self.dtype)[None, None, None]
        return y


def _uniform(bound: float) -> Callable:
    return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)


class BatchNorm(nn.Module):
    """Normalises over batch and space, in float32 also where the compute type is narrower.

    Over a batch sharded across devices the sums are global, so this is synchronised batch norm.
    The running variance takes the unbiased estimate as torch.nn.BatchNorm2d does (Flax keeps the
    biased one), else running statistics drift from the reference's by n / (n - 1).
    """

    dtype: jnp.dtype = jnp.float32
    implementation: Implementation = NATIVE
    # Share of the old running statistics that a step keeps: 1 - PyTorch's momentum.
    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        channels = x.shape[-1]
        if self.implementation.folded_norms:
            if train:
                raise ValueError("a network with folded batch norms cannot be trained")
            bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
            return x + bias.astype(x.dtype)[None, None, None]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if not train:
            y = scale_and_shift(x, running_mean.value, running_var.value, scale, bias, self.epsilon)
            return y.astype(self.dtype)
        # Nothing is lost here: the gradient of `normalize` includes those through both statistics.
        shards = self.implementation.shards
        mean, var = map(keep, statistics(jax.lax.stop_gradient(x), shards))
        if not self.is_initializing():
            count = x.size // channels
            unbiased = var * (count / max(count - 1, 1))
            for running, new in ((running_mean, mean), (running_var, unbiased)):
                running.value = self.momentum * running.value + (1 - self.momentum) * new
        y = normalize(x, mean, var, scale, bias, self.epsilon, shards)
        return y.astype(self.dtype)
