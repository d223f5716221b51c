"""The training loop."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import jax
import ml_collections
import numpy as np
from flax import traverse_util
from jaxtyping import Array, UInt32

from danet_jax import compilation, parallel
from danet_jax.configuration import flat
from danet_jax.errors import UserError
from danet_jax.experiment import CHECKPOINTS
from danet_jax.models.danet import DANet, create_model
from danet_jax.profiling import Profile
from danet_jax.terminal import say
from danet_jax.training.checkpoint import Checkpointer, Record
from danet_jax.training.interruption import interruptible
from danet_jax.training.monitor import Monitor
from danet_jax.training.state import (
    TrainState,
    Variables,
    abstract_variables,
    compiled_init,
    create_train_state,
    init_variables,
    train_step,
)

SCORE = "mean_iou"


class Stream(Protocol):
    """An endless iterator of this process's batches that knows its place."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> dict[str, int]: ...
    def close(self) -> None: ...


# Model, variables, and a function that says whether to stop early → scores, None when stopped.
Evaluate = Callable[[DANet, Any, Callable[[], bool]], dict[str, float] | None]


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    *,
    make_stream: Callable[..., Stream],
    evaluate: Evaluate,
    program: compilation.Program,
    total_steps: int,
    start: Variables | None = None,
    profile: Profile | None = None,
) -> bool:
    """Trains to the end, or on to it from the workdir's newest checkpoint.

    Args:
      config: the whole experiment.
      workdir: gets checkpoints/, metrics.jsonl and tensorboard/.
      make_stream: called with next_batch=index, makes the stream of batches from there.
      evaluate: scores the model; the best "mean_iou" keeps its checkpoint.
      program: of `compiled_step`, for batches of `abstract_batch`.
      total_steps: updates in all.
      start: what a new run starts from in place of random variables; may be a part of them.
      profile: takes note of where the time goes.

    Returns:
      True when done, False when SIGTERM or Ctrl-C ended it early, the state being saved.

    Raises:
      UserError: the loss is not finite, a checkpoint can be neither read nor written.
    """
    mesh = parallel.create_mesh(space=config.mesh.space)
    profile = profile or Profile()
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        interruption = stack.enter_context(interruptible(alone=jax.process_count() == 1))
        checkpointer = Checkpointer(workdir / CHECKPOINTS, clean_up=True)
        stack.enter_context(contextlib.closing(checkpointer))

        # -- State: new, or as it was saved -------------------------------------------------------
        first_step, next_batch, best, scored, record = 0, 0, None, False, None
        if (latest := checkpointer.latest_step()) is None:
            if not program.kept:
                # First, since the compiler's memory and the state's together would be the most that
                # a run ever takes.
                with profile.spend("compilation"):
                    _ = program.compiled
            state = create_state(config, mesh, total_steps, start)
            del start
            jax.block_until_ready(state)
            compilation.give_back_memory()
        else:
            state, record = checkpointer.restore(
                abstract_state(config, mesh, total_steps), step=latest
            )
            first_step, best = latest, record.best
            next_batch = record.stream.get("next_batch", 0)
            scored = checkpointer.has_score(latest)
            if latest == total_steps and scored:
                say(
                    f"{workdir} is finished: all {total_steps} steps are done. Here is its report; "
                    "--fresh would move the run aside and start anew."
                )
            else:
                say(f"{workdir} goes on from step {first_step} of {total_steps}")
        pending: list[dict[str, jax.Array]] = []
        # Seconds, up to the last record.
        waited = 0.0
        stream = stack.enter_context(contextlib.closing(make_stream(next_batch=next_batch)))
        # Imported weights have seen no data yet.
        if record is not None and record.stream and stream.get_state() != record.stream:
            raise UserError(
                f"{workdir} was trained on other data: its stream was at {record.stream}, and now "
                f"is at {stream.get_state()}. Prepare the data set as it was, or give --fresh."
            )
        monitor = stack.enter_context(
            Monitor(
                workdir,
                step=first_step,
                total_steps=total_steps,
                visible=parallel.is_main_process(),
            )
        )
        stack.enter_context(jax.transfer_guard("disallow"))

        # -- Loop: evaluate, save, next batch, step, write ----------------------------------------
        for step in range(first_step, total_steps + 1):
            last = step == total_steps
            stopping = bool(interruption) or checkpointer.reached_preemption(step)
            new = step > first_step

            # A run that was stopped just before an evaluation, or during it, still owes it.
            owed = new or (step > 0 and not scored)
            score = None
            if owed and not stopping and (last or step % config.train.eval_every == 0):
                with profile.spend("step"):
                    jax.block_until_ready(pending)
                with (
                    monitor.paused(),
                    profile.spend("evaluation"),
                    jax.transfer_guard("allow"),
                ):
                    metrics = evaluate(
                        state.model, state.best_variables, lambda: bool(interruption)
                    )
                if metrics is not None:
                    monitor.write_evaluation(step, metrics)
                    score = metrics[SCORE]
                    if best is None or score > best["score"]:
                        best = {"step": step, "score": score}
                stopping = bool(interruption)

            due = last or stopping or step % config.train.checkpoint_every == 0
            if score is not None or (new and due):
                with profile.spend("step"):
                    _check_finite(pending, step, checkpointer)
                record = Record(stream.get_state(), best, config.to_dict())
                with (
                    monitor.paused(),
                    profile.spend("checkpoint"),
                    jax.transfer_guard("allow"),
                ):
                    checkpointer.save(state, record, score=score)
            if last or stopping:
                break

            profile.begin_round(wait_for=pending)
            with profile.spend("input wait"):
                examples = next(stream)
            with profile.spend("host transfer"):
                batch = parallel.put_batch(examples, mesh)
            with profile.spend("compilation"):
                step_function = program.compiled
            with profile.spend("step"):
                state, metrics = step_function(state, batch)
            pending.append(metrics)

            monitor.advance(step + 1)
            if (step + 1) % config.train.log_every == 0 or step + 1 == total_steps:
                # The steps themselves: what came before only put them into a queue.
                with profile.spend("step"):
                    means = _check_finite(pending, step + 1, checkpointer)
                wait = profile.seconds["input wait"]
                means["input_wait"] = (wait - waited) / len(pending)
                pending, waited = [], wait
                monitor.write_training(step + 1, means, batch_size=config.train.batch_size)

    if interruption:
        saved = f"saved step {step} of {total_steps}" if step else "no step was done yet"
        say(f"{interruption.name}: {saved} in {workdir}.")
    return last and not stopping


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


def compiled_step(
    config: ml_collections.ConfigDict,
    mesh: jax.sharding.Mesh,
    total_steps: int,
    batch: dict[str, Any],
) -> compilation.Program:
    """Returns `train_step` for states of `create_state` and batches like this one."""
    function = jax.jit(
        train_step,
        donate_argnums=0,
        out_shardings=parallel.replicated(mesh),
        compiler_options=compilation.options(),
    )
    # What a step does not read may change without another program.
    sections = ("seed", "model.", "loss.", "optimizer.", "mesh.")
    fields = ("train.accumulation_steps", "train.ema_decay", "train.clip_norm")
    settings = [item for item in flat(config).items() if item[0].startswith((*sections, *fields))]
    settings.remove(("model.pretrained_backbone", config.model.pretrained_backbone))
    settings.append(("total_steps", total_steps))
    state = functools.partial(abstract_state, config, mesh, total_steps)
    return compilation.Program(function, state, batch, settings=repr(settings))


def save_start(config: ml_collections.ConfigDict, workdir: Path, variables: Variables) -> None:
    """Writes variables as a run's checkpoint of step 0, which training goes on from."""
    mesh = parallel.create_mesh(space=config.mesh.space)
    with (
        jax.set_mesh(mesh),
        contextlib.closing(Checkpointer(workdir / CHECKPOINTS, clean_up=True)) as checkpointer,
    ):
        # The length of training is not in the arrays.
        state = create_state(config, mesh, total_steps=1, start=variables)
        checkpointer.save(state, Record(stream={}, best=None, config=config.to_dict()))


def create_state(
    config: ml_collections.ConfigDict,
    mesh: jax.sharding.Mesh,
    total_steps: int,
    start: Variables | None = None,
) -> TrainState:
    """Returns the state before the first step, born on the mesh's devices.

    `start` holds arrays that take the place of random ones, in the shape of the model's variables.
    """
    model = create_model(config.model)
    if start is not None:
        given = traverse_util.flatten_dict(start)
        whole = traverse_util.flatten_dict(abstract_variables(model))
        if given.keys() != whole.keys():
            given = traverse_util.flatten_dict(compiled_init(model, config.seed)) | given
        start = jax.device_get(traverse_util.unflatten_dict(given))
    create = jax.jit(
        functools.partial(_create_state, config, model, total_steps),
        out_shardings=parallel.replicated(mesh),
        compiler_options=compilation.options(runs_once=True),
    )
    return create(np.uint32(config.seed), start)


def abstract_state(
    config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh, total_steps: int
) -> TrainState:
    """Returns the shapes and places of `create_state`'s arrays, to restore a checkpoint into."""
    create = functools.partial(_create_state, config, create_model(config.model), total_steps)
    place = parallel.replicated(mesh)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        jax.eval_shape(create, np.uint32(config.seed), None),
    )


def _create_state(
    config: ml_collections.ConfigDict,
    model: DANet,
    total_steps: int,
    seed: UInt32[Array, ""],
    start: Variables | None,
) -> TrainState:
    variables = init_variables(model, seed) if start is None else start
    return create_train_state(config, model, variables, total_steps)


def _check_finite(
    pending: list[dict[str, jax.Array]], step: int, checkpointer: Checkpointer
) -> dict[str, float]:
    """Fetches the metrics of the steps before `step`; returns means, and the last learning rate."""
    fetched = jax.device_get(pending)
    for offset, metrics in enumerate(fetched):
        if np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"]):
            continue
        at = step - len(fetched) + offset
        kept = checkpointer.latest_step()
        state = "No checkpoint was written yet" if kept is None else f"Step {kept} is kept"
        raise UserError(
            f"The loss or its gradient is not finite at step {at}: loss {metrics['loss']}, "
            f"gradient norm {metrics['gradient_norm']}. {state}. "
            "Start with --fresh, which moves this run aside, and a lower "
            "config.optimizer.learning_rate or config.train.clip_norm."
        )
    if not fetched:
        return {}
    means = {name: float(np.mean([m[name] for m in fetched])) for name in fetched[0]}
    means["learning_rate"] = float(fetched[-1]["learning_rate"])
    return means
