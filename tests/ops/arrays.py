"""Arrays that the tests of operations are given, and what to expect, computed one by one."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> jax.Array:
    generator = np.random.default_rng(seed)
    return jnp.asarray(scale * generator.standard_normal(shape), jnp.float32)


def softmax(energy: np.ndarray) -> np.ndarray:
    exponential = np.exp(energy - energy.max())
    return exponential / exponential.sum()


def position_reference(query: jax.Array, key: jax.Array, value: jax.Array) -> np.ndarray:
    """One query at a time, in float64, as the paper's equation 1 and 2 say."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    out = np.zeros((*query.shape[:2], value.shape[2]))
    for b, n in np.ndindex(query.shape[:2]):
        energy = np.array([query[b, n] @ key[b, m] for m in range(key.shape[1])])
        out[b, n] = softmax(energy) @ value[b]
    return out


def xla_convolution(
    x: jax.Array, kernel: jax.Array, cotangent: jax.Array, *, stride: int, dilation: int
) -> tuple[jax.Array, ...]:
    """The convolution and its gradients with respect to map and kernel, all by XLA's own rules."""
    pad = dilation * (kernel.shape[0] - 1) // 2

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((pad, pad), (pad, pad)),
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    y, pull = jax.vjp(convolve, x, kernel)
    return (y, *pull(cotangent))
