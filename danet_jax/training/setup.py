"""What a run trains with: its network and step, its devices, its first state."""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from flax import traverse_util
from jaxtyping import Array, UInt32

from danet_jax.network import (
    Variables,
    compiled_init,
    create_model,
    init_variables,
)
from danet_jax.platform import Target, compiler_options
from danet_jax.runs.checkpoints import Checkpointer, Record
from danet_jax.runs.folder import CHECKPOINTS
from danet_jax.runtime import compilation, parallel
from danet_jax.training.losses import LossFunction
from danet_jax.training.state import (
    StepSettings,
    TrainState,
    create_key,
    first_state,
    step_settings,
    update_state,
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything that is fixed for a training run; made by `set_up`."""

    # What its steps are made with, the network among them.
    settings: StepSettings
    mesh: jax.sharding.Mesh
    seed: int
    # Images in a batch, and their height and width.
    batch_shape: tuple[int, int, int]

    @property
    def target(self) -> Target:
        """The devices that its programs are made for."""
        return Target.of_mesh(self.mesh)

    def create_state(self, start: Variables | None = None) -> TrainState:
        """Returns the state before the first step, created on the mesh's devices.

        Args:
          start: variables to begin with, or a part of their tree; the others are random.
        """
        seed = np.uint32(self.seed)
        if start is None:
            return self._random_state.lower().compile()(seed, None)
        given = traverse_util.flatten_dict(start)
        whole = traverse_util.flatten_dict(self.abstract_state().variables)
        if given.keys() != whole.keys():
            drawn = compiled_init(self.settings.model, self.seed)
            given = traverse_util.flatten_dict(drawn) | given
        return self._create(seed, jax.device_get(traverse_util.unflatten_dict(given)))

    @functools.cached_property
    def _create(self) -> Any:
        # The seed is a traced argument, so that another one does not compile anew.
        return jax.jit(
            functools.partial(_create_state, self.settings),
            out_shardings=parallel.replicated(self.mesh),
            compiler_options=compiler_options(self.target, runs_once=True),
        )

    @functools.cached_property
    def _random_state(self) -> jax.stages.Traced:
        """Traced once, both for its shapes and to be run: a deep network takes a second or two."""
        return self._create.trace(np.uint32(self.seed), None)

    def create_key(self) -> jax.Array:
        """Returns the key of a state, which is derived from the seed and not saved."""
        create = jax.jit(create_key, out_shardings=parallel.replicated(self.mesh))
        return create(np.uint32(self.seed))

    def abstract_state(self) -> TrainState:
        """Returns the shapes and shardings of a state, to restore a checkpoint into."""
        sharding = parallel.replicated(self.mesh)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            self._random_state.out_info,
        )

    def abstract_batch(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes and shardings of the arrays that a training stream gives."""
        sharding = parallel.over_examples_and_rows(self.mesh)
        return {
            "image": jax.ShapeDtypeStruct((*self.batch_shape, 3), np.uint8, sharding=sharding),
            "label": jax.ShapeDtypeStruct(self.batch_shape, np.uint8, sharding=sharding),
        }

    def cached_step(self, batch: Any = None) -> compilation.CachedStep:
        """Returns `update_state` for batches like this one, or those of a training stream."""
        return compilation.CachedStep(
            update_state,
            self.abstract_state,
            self.abstract_batch() if batch is None else batch,
            mesh=self.mesh,
            # Nothing tells a program's own loss from another one of its name.
            settings=None if self.settings.loss_function else repr(self.settings),
        )


def set_up(
    config: ml_collections.ConfigDict,
    mesh: jax.sharding.Mesh,
    total_steps: int,
    loss_function: LossFunction | None = None,
) -> Setup:
    """Returns what an experiment trains with on a mesh.

    Args:
      config: the experiment.
      mesh: the devices.
      total_steps: over which the learning rate falls.
      loss_function: in place of config.loss.name.
    """
    target = Target.of_mesh(mesh)
    model = create_model(config.model, platform=target)
    return Setup(
        settings=step_settings(
            config, model, total_steps, target=target, loss_function=loss_function
        ),
        mesh=mesh,
        seed=config.seed,
        batch_shape=(config.train.batch_size, *config.data.crop_size),
    )


def _create_state(
    settings: StepSettings, seed: UInt32[Array, ""], start: Variables | None
) -> TrainState:
    variables = init_variables(settings.model, seed) if start is None else start
    return first_state(settings, variables, create_key(seed))


def save_start(config: ml_collections.ConfigDict, workdir: Path, variables: Variables) -> None:
    """Writes variables as the checkpoint of step 0, from which training resumes."""
    mesh = parallel.create_mesh(space=config.mesh.space)
    with (
        jax.set_mesh(mesh),
        contextlib.closing(Checkpointer(workdir / CHECKPOINTS, clean_up=True)) as checkpointer,
    ):
        # The number of steps does not affect the arrays, so any value will do.
        state = set_up(config, mesh, total_steps=1).create_state(variables)
        checkpointer.save(0, state.arrays, Record(stream={}, config=config.to_dict()))
