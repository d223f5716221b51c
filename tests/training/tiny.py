"""A network small enough to train inside a test, with all of the large one's parts."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from danet_jax.configs import common
from danet_jax.network import abstract_variables
from danet_jax.training.state import create_key

CLASSES = 3
# Fields that are not of `config.model`.
SECTIONS = ("train", "optimizer", "loss", "eval")


def tiny_config(**fields) -> ml_collections.ConfigDict:
    """Fields of the model by name, those of other sections as `train={"ema_decay": 0.9}`."""
    config = common.get_config()
    config.model.backbone = "resnet10"
    config.model.width = 4
    config.model.num_classes = CLASSES
    config.model.multi_grid = ()
    for name, value in fields.items():
        if name in SECTIONS:
            config[name].update(value)
        else:
            config.model[name] = value
    return config


def random_variables(model, *, seed: int = 0) -> dict:
    """Variables at which all parts of the network matter, made without compiling anything."""
    generator = np.random.default_rng(seed)
    shapes = abstract_variables(model)

    def leaf(path, shape):
        name = path[-1].key
        z = generator.standard_normal(shape.shape)
        if name == "kernel":
            z *= (2 / np.prod(shape.shape[:-1])) ** 0.5
        elif name in ("scale", "var"):
            z = 1 + 0.1 * np.abs(z)
        else:
            z = 0.1 * z + (0.5 if name == "gamma" else 0)
        return jnp.asarray(z, jnp.float32)

    return jax.tree.map_with_path(leaf, shapes)


def random_batch(size: int, *, side: int = 32, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    label = generator.integers(0, CLASSES + 1, (size, side // 4, side // 4), dtype=np.uint8)
    label = np.where(label == CLASSES, 255, label).astype(np.uint8)
    return {"image": image, "label": label.repeat(4, axis=1).repeat(4, axis=2)}


def save_state(checkpointer, state, record):
    """Saves a state as its loop does."""
    checkpointer.save(int(state.step), state.arrays, record)


def restore_state(checkpointer, state, *, step):
    """Returns a state like this one with the arrays of a step, and its record."""
    arrays, record = checkpointer.restore(step, state.arrays)
    return state.replace(**arrays, key=create_key(0)), record
