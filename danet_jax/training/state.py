"""The state of training and one step of it, as pure functions."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import struct
from jaxtyping import Array, Float, UInt32

from danet_jax import platform
from danet_jax.models.danet import DANet
from danet_jax.network import Variables
from danet_jax.platform import Target
from danet_jax.runs.checkpoints import eval_variables
from danet_jax.training.losses import LossFunction, segmentation_losses
from danet_jax.training.optimizer import create_optimizer, learning_rate_schedule

Batch = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]

# The fields of a state that steps change, in a checkpoint.
ARRAYS = ("step", "params", "batch_stats", "opt_state", "ema")


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """All that a step is made with: another value is another program."""

    model: DANet
    # `config.loss` and `config.optimizer`.
    loss: ml_collections.FrozenConfigDict
    optimizer: ml_collections.FrozenConfigDict
    # The norm that gradients are clipped to; 0 for no clipping.
    clip_norm: float
    # Share of the old value that the moving average keeps in a step; 0 for no average.
    ema_decay: float
    # Into how many parts a batch is divided, whose gradients are added up.
    accumulation_steps: int
    # Over which the learning rate falls.
    total_steps: int
    # Bytes that a batch's full-size logits may take at once; None for any number.
    logit_bytes: int | None
    # A program's own loss in place of the one that `loss` names.
    loss_function: LossFunction | None = None

    @functools.cached_property
    def gradient_transformation(self) -> optax.GradientTransformation:
        """The optimiser, with clipping."""
        return create_optimizer(
            self.optimizer, clip_norm=self.clip_norm, total_steps=self.total_steps
        )


class TrainState(struct.PyTreeNode):
    """The state of training: arrays, which a checkpoint holds but for the key.

    The key follows from the seed and never changes. All are `jax.ShapeDtypeStruct`s where a
    checkpoint is yet to be read.
    """

    step: Any
    # The raw key of dropout, into which each step folds its index.
    key: Any
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    # Moving average of params and batch_stats, or None.
    ema: Any
    settings: StepSettings = struct.field(pytree_node=False)

    @property
    def arrays(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {name: getattr(self, name) for name in ARRAYS}

    @property
    def variables(self) -> Variables:
        """The model's variables as trained."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def eval_variables(self) -> Variables:
        """The model's variables to evaluate and predict with: the average where there is one."""
        return eval_variables(self.arrays)


def create_train_state(
    config: ml_collections.ConfigDict,
    model: DANet,
    variables: Variables,
    total_steps: int,
    *,
    target: Target | None = None,
) -> TrainState:
    """Returns the state before the first step.

    Args:
      config: the whole experiment, of which a step reads seed, model, loss, optimizer and train.
      model: of `create_model`.
      variables: "params" and "batch_stats" of the model. The state holds these arrays, no copies: a
        step that donates its state takes them away.
      total_steps: over which the learning rate falls.
      target: the devices that steps will run on; None for one of those here.
    """
    settings = step_settings(config, model, total_steps, target=target)
    return first_state(settings, variables, create_key(config.seed))


def first_state(
    settings: StepSettings, variables: Variables, key: UInt32[Array, "2"]
) -> TrainState:
    """Returns the state before the first step, which holds the arrays of these variables."""
    average = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        key=key,
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=settings.gradient_transformation.init(variables["params"]),
        # A copy: the step donates its state, and a donated buffer may have one owner only.
        ema=jax.tree.map(jnp.copy, average) if settings.ema_decay > 0 else None,
        settings=settings,
    )


def create_key(seed: Any) -> UInt32[Array, "2"]:
    """Returns a state's raw key; typed keys are no plain arrays."""
    return jax.random.key_data(jax.random.key(seed))


def step_settings(
    config: ml_collections.ConfigDict,
    model: DANet,
    total_steps: int,
    *,
    target: Target | None = None,
    loss_function: LossFunction | None = None,
) -> StepSettings:
    """Returns what a config says of a step; the arguments are those of `create_train_state`."""
    frozen = ml_collections.FrozenConfigDict(config)
    return StepSettings(
        model=model,
        loss=frozen.loss,
        optimizer=frozen.optimizer,
        clip_norm=frozen.train.clip_norm,
        ema_decay=frozen.train.ema_decay,
        accumulation_steps=frozen.train.accumulation_steps,
        total_steps=total_steps,
        logit_bytes=platform.logit_bytes(config.loss, target or Target.here()),
        loss_function=loss_function,
    )


def update_state(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Returns the state after one update and its metrics, as `train_step` does, to be traced."""
    settings = state.settings
    gradients, batch_stats, metrics = _accumulated_gradients(state, batch)
    norm = optax.tree.norm(gradients)
    updates, opt_state = settings.gradient_transformation.update(
        gradients, state.opt_state, state.params
    )
    # A gradient that is not finite, at which training stops, moves no parameter. And as all updates
    # wait for all gradients, they are written over the parameters: XLA would copy each one first,
    # as long as something might still read it.
    updates = jax.tree.map(lambda update: jnp.where(jnp.isfinite(norm), update, 0), updates)
    params = optax.apply_updates(state.params, updates)

    ema = state.ema
    if ema is not None:
        new = {"params": params, "batch_stats": batch_stats}
        ema = optax.incremental_update(new, ema, 1 - settings.ema_decay)

    schedule = learning_rate_schedule(settings.optimizer, settings.total_steps)
    metrics["learning_rate"] = jnp.asarray(schedule(state.step), jnp.float32)
    metrics["gradient_norm"] = norm
    state = state.replace(
        step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    return state, metrics


def _accumulated_gradients(state: TrainState, batch: Batch) -> tuple[Any, Any, dict[str, Any]]:
    """Means over the batch's parts of gradients and metrics; statistics see each part in turn."""
    parts = state.settings.accumulation_steps
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    if parts == 1:
        return _gradients(state, state.batch_stats, batch, key)

    # [b, …] → [parts, b / parts, …], each part spread over all the devices.
    split = jax.tree.map(lambda x: jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0), batch)

    def add_part(carry, part_and_key):
        sums, batch_stats = carry
        part, part_key = part_and_key
        gradients, batch_stats, metrics = _gradients(state, batch_stats, part, part_key)
        return (jax.tree.map(jnp.add, sums, (gradients, metrics)), batch_stats), None

    first = jax.tree.map(lambda x: x[0], split)
    shapes = jax.eval_shape(_gradients, state, state.batch_stats, first, key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes[0], shapes[2]))
    (sums, batch_stats), _ = jax.lax.scan(
        add_part, (zeros, state.batch_stats), (split, jax.random.split(key, parts))
    )
    gradients, metrics = jax.tree.map(lambda x: x / parts, sums)
    return gradients, batch_stats, metrics


def _gradients(
    state: TrainState, batch_stats: Any, batch: Batch, key: Array
) -> tuple[Any, Any, dict[str, Any]]:
    settings = state.settings

    def loss_of(params):
        logits, updated = settings.model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["image"],
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        loss, parts = segmentation_losses(
            logits,
            batch["label"],
            settings.loss,
            align_corners=settings.model.align_corners,
            logit_bytes=settings.logit_bytes,
            resize=settings.model.implementation.resize,
            function=settings.loss_function,
        )
        return loss, (updated["batch_stats"], parts)

    (loss, (batch_stats, parts)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
        state.params
    )
    return gradients, batch_stats, {"loss": loss, **parts}
