"""The forms of the operations that a network is made of."""

import dataclasses

from danet_jax.ops.shards import ONE_DEVICE, Shards

# The gradient of a convolution by its kernel, see `ops.weight_gradient`.
WEIGHT_GRADIENTS = ("native", "einsum", "space_to_batch")
# Extents of what the gradient of a residual block computes anew, see `ops.recompute`.
RECOMPUTATIONS = ("none", "light", "block")


@dataclasses.dataclass(frozen=True)
class Implementation:
    """Which form each operation takes; all forms give the same values but for rounding.

    The defaults are XLA's own operations, which run on every platform. `danet_jax.platform` knows
    which forms are fast where.
    """

    # 3x3 convolutions: "native", or "winograd" where kernel and map suit it.
    convolution: str = "native"
    # WEIGHT_GRADIENTS, for convolutions whose taps lie apart, those with a stride, and the others.
    dilated_weight_gradient: str = "native"
    strided_weight_gradient: str = "native"
    weight_gradient: str = "native"
    # Whether the result of XLA's own convolution is stored before anything reads it.
    stored_convolutions: bool = False
    # Position attention: "full", "rows" or "tiles".
    position_attention: str = "full"
    # "rows" and "tiles" begin where one image's energies would take more bytes than this.
    full_attention_bytes: int = 0
    # Bytes of one image's energies that "rows" holds at a time.
    attention_row_bytes: int = 2**26
    # One of RECOMPUTATIONS.
    recompute: str = "none"
    # Whether gradients are computed in the order that frees memory soonest.
    ordered_gradients: bool = False
    # The sum that ends a residual block: "fused" into what reads it, or "materialized", computed
    # once and stored.
    residual_relu: str = "fused"
    # A form of bilinear resizing, see `ops.resize`.
    resize: str = "by_platform"
    # The devices that a batch is spread over.
    shards: Shards = ONE_DEVICE
    # Inference alone: whether kernels hold the factors of the batch norms behind them.
    folded_norms: bool = False
    # Inference alone: whether kernels that suit Winograd's algorithm are stored transformed.
    winograd_kernels: bool = False


# XLA's own operations.
NATIVE = Implementation()
