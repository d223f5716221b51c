"""From `config.model` to a network whose every choice is explicit."""

import jax.numpy as jnp
import ml_collections

from danet_jax.model_config import check_model_config
from danet_jax.models.danet import ATTENTIONS, DANet
from danet_jax.platform import Target, implementation

PUBLISHED_MULTI_GRID = (4, 8, 16)
# Fields that say how it is computed, or what it starts from, and not what it is.
_OTHER_FIELDS = (
    "conv_weight_gradient",
    "energy_memory",
    "position_attention",
    "pretrained_backbone",
    "remat",
)


def create_model(
    model_config: ml_collections.ConfigDict, *, platform: str | Target | None = None
) -> DANet:
    """Returns the Linen module for `config.model`.

    Args:
      model_config: all fields of `config.model`.
      platform: "cpu", "gpu" or "tpu", for which its "auto"s are resolved, or what more is known of
        the devices; None for one of those here.

    Raises:
      UserError: a field has a wrong value.
    """
    check_model_config(model_config)
    target = Target(platform) if isinstance(platform, str) else platform or Target.here()
    # Left open, and nothing is known of crops.
    multi_grid = model_config["multi_grid"]
    multi_grid = PUBLISHED_MULTI_GRID if multi_grid is None else tuple(multi_grid)
    fields = {name: value for name, value in model_config.items() if name not in _OTHER_FIELDS}
    fields |= {
        "attention": tuple(name for name in ATTENTIONS if name in model_config["attention"]),
        "multi_grid": multi_grid,
        "dtype": jnp.dtype(model_config["dtype"]),
        "implementation": implementation(model_config, target),
    }
    return DANet(**fields)
