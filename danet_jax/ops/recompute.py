"""Arrays that the gradient computes anew in place of keeping them."""

from typing import Any

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

# The name of all that "light" keeps.
_KEPT = "kept"


def keep(x: Array) -> Array:
    """Returns x, which "light" recomputation saves for the gradient."""
    return checkpoint_name(x, _KEPT)


def recompute(module: Any, extent: str) -> Any:
    """Returns a module class whose gradient computes its inside anew from its input.

    Args:
      module: a class whose `__call__` takes (self, x, train).
      extent: "none": all is kept that the gradient reads; "light": what `keep` marks, the
        outputs of narrow convolutions, and all that is cheap or wide is computed again; "block":
        nothing but the input is kept.
    """
    if extent == "none":
        return module
    policy = jax.checkpoint_policies.save_only_these_names(_KEPT) if extent == "light" else None
    return nn.remat(module, policy=policy, static_argnums=(2,))


def wait_for_all(*arrays: Array) -> tuple[Array, ...]:
    """Returns the arrays, none of which is available before all of them are computed.

    Without it XLA computes early what only the gradient reads, such as a normalised map, and keeps
    it, and it computes the gradients of kernels last of all, and until then keeps all that they are
    computed from. On CPU XLA takes such a barrier away unless `platform.compiler_options` are
    given.
    """
    return jax.lax.optimization_barrier(arrays)
