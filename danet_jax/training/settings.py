"""What a config must hold before a run can train, and how long the run is."""

from collections.abc import Sequence

import ml_collections

from danet_base.errors import UserError
from danet_jax.network import create_model
from danet_jax.runs.config import flat
from danet_jax.runtime import parallel
from danet_jax.training.losses import check_loss_config

_AT_LEAST_ONE = (
    "train.batch_size",
    "train.accumulation_steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
)
_BELOW_ONE = ("train.ema_decay",)
_SHARES = ("loss.ohem_threshold", "loss.ohem_min_kept")
_NOT_NEGATIVE = (
    "optimizer.learning_rate",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.head_factor",
    "optimizer.poly_power",
    "optimizer.min_learning_rate",
    "train.clip_norm",
    "train.steps",
    "train.epochs",
    "loss.logit_memory",
    "loss.added_weight",
    "loss.fused_weight",
    "loss.position_weight",
    "loss.channel_weight",
    "loss.auxiliary_weight",
    "loss.focal_gamma",
    "loss.tversky_alpha",
    "loss.tversky_beta",
)
_NUMBERS = ("data.crop_size", "data.scale_range", "loss.class_weights")


def check_config(config: ml_collections.ConfigDict, *, here: bool = True) -> None:
    """Raises a UserError for values that cannot train, on this machine's devices where `here`."""
    values = dict(flat(config))
    for field in _AT_LEAST_ONE:
        # What is left open until the training's length is known is no number yet.
        if values[field] is not None and values[field] < 1:
            raise UserError(f"config.{field} is {values[field]}; give 1 or more.")
    for field in _NOT_NEGATIVE:
        if values[field] < 0:
            raise UserError(f"config.{field} is {values[field]}; give 0 or more.")
    for field in _BELOW_ONE:
        if not 0 <= values[field] < 1:
            raise UserError(f"config.{field} is {values[field]}; give 0 to below 1.")
    for field in _SHARES:
        if not 0 <= values[field] <= 1:
            raise UserError(f"config.{field} is {values[field]}; give a share, 0 to 1.")
    for field in _NUMBERS:
        if not all(isinstance(value, int | float) for value in values[field] or ()):
            raise UserError(f"config.{field} is {values[field]}; give numbers.")
    if not 0 <= config.seed < 2**32:
        raise UserError(f"config.seed is {config.seed}; give 0 to {2**32 - 1}.")
    if len(config.data.crop_size) != 2:
        raise UserError(f"config.data.crop_size is {config.data.crop_size}; give (height, width).")

    create_model(config.model)
    check_loss_config(config.loss, config.model.num_classes)
    batch_size, parts = config.train.batch_size, config.train.accumulation_steps
    if batch_size % parts:
        raise UserError(
            f"config.train.batch_size {batch_size} does not divide into "
            f"config.train.accumulation_steps {parts}."
        )
    if not here:
        return
    parallel.check_divisible(
        parallel.create_mesh(space=config.mesh.space),
        batch_size=batch_size // parts,
        height=config.data.crop_size[0],
    )


def check_overrides(config: ml_collections.ConfigDict, overrides: Sequence[str]) -> None:
    """Raises a UserError for "--config.train.epochs=VALUE" where the number of steps is given."""
    for override in overrides:
        given = override.startswith("--config.train.epochs=") and config.train.epochs
        if given and config.train.steps:
            raise UserError(
                f"{override}: config.train.steps is {config.train.steps}, and that counts. Give "
                "--config.train.steps=0 besides, or the number of steps."
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
