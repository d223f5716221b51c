"""What a run begins with: its state, placed on the devices, and its step, compiled."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util
from jaxtyping import Array, UInt32

from danet_jax.models.danet import DANet
from danet_jax.network import (
    Variables,
    abstract_variables,
    compiled_init,
    create_model,
    init_variables,
)
from danet_jax.platform import Target, compiler_options
from danet_jax.runs.checkpoints import Checkpointer, Record
from danet_jax.runs.folder import CHECKPOINTS
from danet_jax.runtime import compilation, parallel
from danet_jax.training.state import (
    TrainState,
    create_key,
    create_train_state,
    step_settings,
    update_state,
)


def create_state(
    config: ml_collections.ConfigDict,
    mesh: jax.sharding.Mesh,
    total_steps: int,
    start: Variables | None = None,
) -> TrainState:
    """Returns the state before the first step, born on the mesh's devices.

    `start` holds arrays that take the place of random ones, in the shape of the model's variables.
    """
    model = create_model(config.model, platform=Target.of_mesh(mesh))
    if start is not None:
        given = traverse_util.flatten_dict(start)
        whole = traverse_util.flatten_dict(abstract_variables(model))
        if given.keys() != whole.keys():
            given = traverse_util.flatten_dict(compiled_init(model, config.seed)) | given
        start = jax.device_get(traverse_util.unflatten_dict(given))
    create = jax.jit(
        functools.partial(_create_state, config, model, total_steps, Target.of_mesh(mesh)),
        out_shardings=parallel.replicated(mesh),
        compiler_options=compiler_options(Target.of_mesh(mesh), runs_once=True),
    )
    return create(np.uint32(config.seed), start)


def placed_key(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> jax.Array:
    """Returns the key of a state, which its seed gives and no checkpoint holds."""
    create = jax.jit(create_key, out_shardings=parallel.replicated(mesh))
    return create(np.uint32(config.seed))


def abstract_state(
    config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, total_steps: int
) -> TrainState:
    """Returns the shapes and places of `create_state`'s arrays, to restore a checkpoint into."""
    target = Target.of_mesh(mesh)
    model = create_model(config.model, platform=target)
    create = functools.partial(_create_state, config, model, total_steps, target)
    place = parallel.replicated(mesh)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        jax.eval_shape(create, np.uint32(config.seed), None),
    )


def _create_state(
    config: ml_collections.ConfigDict,
    model: DANet,
    total_steps: int,
    target: Target,
    seed: UInt32[Array, ""],
    start: Variables | None,
) -> TrainState:
    variables = init_variables(model, seed) if start is None else start
    state = create_train_state(config, model, variables, total_steps, target=target)
    # The seed is an argument, so that a new one compiles nothing.
    return state.replace(key=create_key(seed))


def abstract_batch(
    config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and places of the arrays that a training stream gives."""
    shape = (config.train.batch_size, *config.data.crop_size)
    place = parallel.over_examples_and_rows(mesh)
    return {
        "image": jax.ShapeDtypeStruct((*shape, 3), np.uint8, sharding=place),
        "label": jax.ShapeDtypeStruct(shape, np.uint8, sharding=place),
    }


def cached_step(
    config: ml_collections.ConfigDict,
    mesh: jax.sharding.Mesh,
    total_steps: int,
    batch: dict[str, Any],
) -> compilation.CachedStep:
    """Returns `update_state` for states of `create_state` and batches like this one."""
    model = create_model(config.model, platform=Target.of_mesh(mesh))
    settings = step_settings(config, model, total_steps, target=Target.of_mesh(mesh))
    return compilation.CachedStep(
        update_state,
        functools.partial(abstract_state, config, mesh, total_steps),
        batch,
        mesh=mesh,
        settings=repr(settings),
    )


def save_start(config: ml_collections.ConfigDict, workdir: Path, variables: Variables) -> None:
    """Writes variables as a run's checkpoint of step 0, which training goes on from."""
    mesh = parallel.create_mesh(space=config.mesh.space)
    with (
        jax.set_mesh(mesh),
        contextlib.closing(Checkpointer(workdir / CHECKPOINTS, clean_up=True)) as checkpointer,
    ):
        # The length of training is not in the arrays.
        state = create_state(config, mesh, total_steps=1, start=variables)
        checkpointer.save(0, state.arrays, Record(stream={}, config=config.to_dict()))
