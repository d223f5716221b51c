"""The published network with random weights."""

from typing import Any

import jax

import danet_jax
from configs import common
from danet_jax.models.danet import DANet
from danet_jax.training.train import init_variables


def create_model(backbone: str) -> DANet:
    """Returns the network for Cityscapes' 19 classes."""
    config = common.get_config()
    config.model.backbone = backbone
    return danet_jax.create_model(config.model)


def create(backbone: str) -> tuple[DANet, dict[str, Any]]:
    """Returns the network and random weights, attention switched on."""
    model = create_model(backbone)
    variables = jax.jit(lambda: init_variables(model, 0))()

    def switched_on(path, array):
        return 0.5 + array if path[-1].key == "gamma" else array

    return model, jax.tree_util.tree_map_with_path(switched_on, variables)
