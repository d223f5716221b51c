"""Maps that several devices share: examples over "data", rows over "space"."""

import dataclasses

import jax
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from danet_jax.base.sharing import AXES


@dataclasses.dataclass(frozen=True)
class Shards:
    """How many devices share the examples of a batch, and how many the rows of each of them."""

    data: int = 1
    space: int = 1


ONE_DEVICE = Shards()


def divides(x: Float[Array, "b h w c"], shards: Shards) -> bool:
    """Whether there are several devices, and each has as many examples and rows as the others."""
    if shards == ONE_DEVICE:
        return False
    return x.shape[0] % shards.data == 0 and x.shape[1] % shards.space == 0


def to_parts(x: Float[Array, "b h w c"], shards: Shards) -> Float[Array, "m i n j w c"]:
    """Returns the part of device (m, n) at [m, :, n, :], without moving anything."""
    b, h, w, c = x.shape
    return x.reshape(shards.data, b // shards.data, shards.space, h // shards.space, w, c)


def over_devices(parts: Float[Array, "m n k c"], shards: Shards) -> Float[Array, "d k c"]:
    """Returns the parts of device (m, n) at [m n], where they are.

    A sum over them is then one exchange; of two axes it would be one after the other.
    """
    return _placed(parts.reshape(-1, *parts.shape[2:]), shards, PartitionSpec(AXES))


def gather(parts: Float[Array, "m n k c"], shards: Shards) -> Float[Array, "d k c"]:
    """Gives each device the parts of all."""
    return _placed(over_devices(parts, shards), shards, PartitionSpec())


def _placed(array: Array, shards: Shards, spec: PartitionSpec) -> Array:
    sizes = (shards.data, shards.space)
    mesh = AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES))
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))
