"""State dicts with random arrays, in the names of three families of checkpoints."""

import numpy as np

import danet_jax
from danet_jax.interop import torch_arrays, torch_names, torch_weights


def original(model, *, seed: int = 0) -> dict[str, np.ndarray]:
    """Of the model's own architecture, in the original's names."""
    return _random(_their_shapes(model, torch_names.ORIGINAL), seed)


def mmsegmentation(model, *, seed: int = 0) -> dict[str, np.ndarray]:
    return _random(_their_shapes(model, torch_names.MMSEGMENTATION), seed)


def torchvision(model, *, seed: int = 0) -> dict[str, np.ndarray]:
    """A ResNet with the classifier of ImageNet, which no segmentation network takes over."""
    arrays = _random(_their_shapes(model, torch_names.TORCHVISION), seed)
    channels = max(array.shape[0] for array in arrays.values())
    return arrays | {
        "fc.weight": np.zeros((1000, channels), np.float32),
        "fc.bias": np.zeros(1000, np.float32),
        "bn1.num_batches_tracked": np.array(7),
    }


def variables(model, arrays):
    return danet_jax.from_torch(arrays, model)


def _their_shapes(model, naming) -> dict[str, tuple[int, ...]]:
    ours = torch_weights._shapes(model)
    return {
        their_name: torch_arrays.their_shape(name, ours[name])
        for name, their_name in naming.names(ours).items()
    }


def _random(shapes, seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        z = generator.standard_normal(shape)
        if len(shape) == 4:
            z *= (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith(("running_var", "weight")):
            z = 1 + 0.1 * np.abs(z)
        else:
            z = 0.1 * z + (0.5 if "gamma" in name else 0)
        arrays[name] = z.astype(np.float32)
    return arrays
