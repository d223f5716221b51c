"""One array on its way from PyTorch and back: its shape, its numbers, its layout.

The name of a variable tells its layout: a kernel is [h, w, in, out] here and [out, in, h, w] there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from danet_jax.base.texts import one_line


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Returns the shape of a tensor or an array; None for anything else."""
    try:
        return tuple(int(side) for side in value.shape)
    # Nested tensors have a shape that cannot be asked for.
    except Exception:
        return None


def describe_value(value: Any) -> str:
    """Returns words for a value that holds no numbers."""
    words = [type(value).__name__]
    if hasattr(value, "detach"):
        words += [str(value.dtype), *({str(value.layout)} - {"torch.strided"})]
        words += ["without content"] * (value.device.type == "meta")
    elif hasattr(value, "dtype"):
        words.append(str(value.dtype))
    return one_line(", ".join(words))


def to_float(value: Any) -> np.ndarray | None:
    """Returns a tensor or an array as float32 or float64; None where it holds no such numbers."""
    if hasattr(value, "detach"):  # torch, which is not imported here
        try:
            value = value.detach().cpu()
            if not value.is_floating_point() or str(value.layout) != "torch.strided":
                return None
            if value.element_size() < 4:
                value = value.float()
            value = value.resolve_neg().numpy()
        # These are tensors without content (on the device meta) and kinds that NumPy does not have.
        except (RuntimeError, TypeError, NotImplementedError):
            return None
    array = np.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return None
    if array.dtype == np.float64 and jax.config.read("jax_enable_x64"):
        return array
    with np.errstate(over="ignore"):  # what overflows is found not to be finite
        return array.astype(np.float32)


def their_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name.endswith("gamma"):
        return (1,)
    if name.endswith("kernel"):
        return (shape[3], shape[2], shape[0], shape[1])
    return shape


def to_ours(name: str, array: np.ndarray) -> jax.Array:
    if name.endswith("gamma"):
        array = array.reshape(())
    elif name.endswith("kernel"):
        array = array.transpose(2, 3, 1, 0)
    # It is a copy, since training donates its arrays and must not donate the caller's.
    return jnp.array(array)


def to_theirs(name: str, array: np.ndarray) -> np.ndarray:
    if name.endswith("gamma"):
        return np.array(array).reshape(1)
    if name.endswith("kernel"):
        array = array.transpose(3, 2, 0, 1)
    return np.array(array, order="C")
