"""The state of training and one step of it, as pure functions."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float, UInt32

from danet_jax import compilation
from danet_jax.models.danet import DANet
from danet_jax.training.losses import segmentation_losses
from danet_jax.training.optimizer import create_optimizer, learning_rate_schedule

Variables = dict[str, Any]
Batch = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]


class TrainState(struct.PyTreeNode):
    """What a step changes (arrays, all in a checkpoint) and what it is made with (static)."""

    # This and the others are `jax.ShapeDtypeStruct`s where a checkpoint is yet to be read.
    step: Any
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    # Moving average of params and batch_stats, or None.
    ema: Any
    model: DANet = struct.field(pytree_node=False)
    optimizer: optax.GradientTransformation = struct.field(pytree_node=False)
    config: ml_collections.FrozenConfigDict = struct.field(pytree_node=False)
    total_steps: int = struct.field(pytree_node=False)

    @property
    def variables(self) -> Variables:
        """The model's variables as trained."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def best_variables(self) -> Variables:
        """The model's variables to evaluate and predict with: the average where there is one."""
        return self.variables if self.ema is None else self.ema


def create_train_state(
    config: ml_collections.ConfigDict, model: DANet, variables: Variables, total_steps: int
) -> TrainState:
    """Returns the state before the first step.

    Args:
      config: the whole experiment, of which a step reads seed, model, loss, optimizer and train.
      model: of `create_model`.
      variables: "params" and "batch_stats" of the model. The state holds these arrays, no copies: a
        step that donates its state takes them away.
      total_steps: over which the learning rate falls.
    """
    frozen = ml_collections.FrozenConfigDict(config)
    optimizer = _optimizer(frozen.optimizer, frozen.train.clip_norm, total_steps)
    average = {"params": variables["params"], "batch_stats": variables["batch_stats"]}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        # A copy: the step donates its state, and a donated buffer may have one owner only.
        ema=jax.tree.map(jnp.copy, average) if config.train.ema_decay > 0 else None,
        model=model,
        optimizer=optimizer,
        config=frozen,
        total_steps=total_steps,
    )


@functools.lru_cache(maxsize=16)
def _optimizer(
    optimizer_config: ml_collections.FrozenConfigDict, clip_norm: float, total_steps: int
) -> optax.GradientTransformation:
    """Always the same object, so that a step compiled for one state takes another one, too."""
    return create_optimizer(optimizer_config, clip_norm=clip_norm, total_steps=total_steps)


def compiled_init(model: DANet, seed: int) -> Variables:
    """Returns `init_variables`, compiled for this one use."""
    init = functools.partial(init_variables, model)
    return jax.jit(init, compiler_options=compilation.options(runs_once=True))(np.uint32(seed))


def init_variables(model: DANet, seed: UInt32[Array, ""]) -> Variables:
    """Returns random variables, to be traced: an array of a seed leaves one program for all."""
    # No parameter's shape depends on the image's size.
    image = jnp.zeros((1, 64, 64, 3), jnp.float32)
    return dict(_jitted_init(model)({"params": jax.random.key(seed)}, image))


@functools.lru_cache(maxsize=16)
def _jitted_init(model: DANet) -> Callable:
    """Always the same object, so that a network is traced once and not for each of shapes,
    checkpoint and state."""
    return jax.jit(functools.partial(model.init, train=False))


@functools.lru_cache(maxsize=16)
def abstract_variables(model: DANet) -> Variables:
    """Returns the shapes of `init_variables`; tracing a deep network takes a second or two."""
    return jax.eval_shape(functools.partial(init_variables, model), np.uint32(0))


def update_state(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Returns the state after one update and its metrics, as `train_step` does, to be traced."""
    config = state.config
    gradients, batch_stats, metrics = _accumulated_gradients(state, batch)
    norm = optax.tree.norm(gradients)
    updates, opt_state = state.optimizer.update(gradients, state.opt_state, state.params)
    # A gradient that is not finite, at which training stops, moves no parameter. And as all updates
    # wait for all gradients, they are written over the parameters: XLA would copy each one first,
    # as long as something might still read it.
    updates = jax.tree.map(lambda update: jnp.where(jnp.isfinite(norm), update, 0), updates)
    params = optax.apply_updates(state.params, updates)

    ema = state.ema
    if ema is not None:
        new = {"params": params, "batch_stats": batch_stats}
        ema = optax.incremental_update(new, ema, 1 - config.train.ema_decay)

    schedule = learning_rate_schedule(config.optimizer, state.total_steps)
    metrics["learning_rate"] = jnp.asarray(schedule(state.step), jnp.float32)
    metrics["gradient_norm"] = norm
    state = state.replace(
        step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema
    )
    return state, metrics


def _accumulated_gradients(state: TrainState, batch: Batch) -> tuple[Any, Any, dict[str, Any]]:
    """Means over the batch's parts of gradients and metrics; statistics see each part in turn."""
    parts = state.config.train.accumulation_steps
    key = jax.random.fold_in(jax.random.key(state.config.seed), state.step)
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
    def loss_of(params):
        logits, updated = state.model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["image"],
            train=True,
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        loss, parts = segmentation_losses(
            logits,
            batch["label"],
            state.config.loss,
            align_corners=state.model.align_corners,
        )
        return loss, (updated["batch_stats"], parts)

    (loss, (batch_stats, parts)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
        state.params
    )
    return gradients, batch_stats, {"loss": loss, **parts}
