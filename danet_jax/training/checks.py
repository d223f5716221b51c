"""What a config must hold before a run can train, and how long the run is."""

import jax
import ml_collections

from danet_jax.base.errors import UserError
from danet_jax.configs import rules
from danet_jax.runtime import parallel


def check_config(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> None:
    """Raises a UserError for values that cannot train on these devices."""
    rules.check(config)
    parallel.check_divisible(
        mesh,
        batch_size=config.train.batch_size // config.train.accumulation_steps,
        height=config.data.crop_size[0],
    )


def count_steps(config: ml_collections.ConfigDict, num_examples: int) -> int:
    """Returns config.train.steps, or the whole batches in config.train.epochs."""
    steps = config.train.steps or config.train.epochs * num_examples // config.train.batch_size
    if steps < 1:
        raise UserError(
            f"config.train: {config.train.epochs} epochs of {num_examples} examples make no batch "
            f"of {config.train.batch_size}: set more epochs, or config.train.steps."
        )
    return steps
