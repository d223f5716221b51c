"""Arrays that the gradient computes anew in place of keeping them."""

from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

# The name of all that "light" keeps.
_KEPT = "kept"


def keep(x: Array) -> Array:
    """Returns x, which "light" recomputation keeps for the gradient."""
    return checkpoint_name(x, _KEPT)


def recompute(module: Any, extent: str) -> Any:
    """Returns a module class whose gradient computes its inside anew from its input.

    Args:
      module: a class whose `__call__` takes (self, x, train).
      extent: "none": all is kept that the gradient reads; "light": what `keep` was told, which are
        the outputs of narrow convolutions, and all that is cheap or wide is computed anew; "block":
        nothing but the input is kept.
    """
    if extent == "none":
        return module
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT) if extent == "light" else None
    return nn.remat(module, policy=policy, static_argnums=(2,))


def in_order(*arrays: Array) -> tuple[Array, ...]:
    """Returns the arrays, none of which is there before all of them are.

    Without it XLA computes early what only the gradient reads, such as a normalised map, and keeps
    it, and it computes the gradients of kernels last of all, and until then keeps all that they are
    computed from. On CPU XLA takes such a barrier away unless `platform.compiler_options` are
    given.
    """
    return jax.lax.optimization_barrier(arrays)
