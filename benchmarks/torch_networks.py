"""The same network in PyTorch."""

import time
from typing import Any

import numpy as np
import torch

import danet_jax
from danet_jax.interop.torch_danet import TorchDANet
from danet_jax.models.danet import DANet


def twin(model: DANet, variables: dict[str, Any]) -> TorchDANet:
    """Returns the same network in PyTorch, ready to predict."""
    network = TorchDANet(model)
    arrays = danet_jax.to_torch(variables, model)
    loaded = network.load_state_dict(
        {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, strict=False
    )
    assert not loaded.unexpected_keys
    return network.eval()


def faster_layout(
    network: TorchDANet, size: tuple[int, int], repeats: int = 3
) -> torch.memory_format:
    """Converts a network to the memory format that is the faster one for images of a size."""
    medians = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        network.to(memory_format=layout)
        image = torch.zeros((1, 3, *size)).to(memory_format=layout)
        seconds = []
        with torch.inference_mode():
            network(image)
            for _ in range(repeats):
                start = time.perf_counter()
                network(image)
                seconds.append(time.perf_counter() - start)
        medians[layout] = float(np.median(seconds))
    fastest = min(medians, key=lambda layout: medians[layout])
    network.to(memory_format=fastest)
    return fastest
