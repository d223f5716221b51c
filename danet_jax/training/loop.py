"""The training loop."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import ml_collections
import numpy as np
from jaxtyping import Float32

from danet_jax.base.errors import UserError
from danet_jax.base.labels import IGNORE_LABEL
from danet_jax.base.wording import counted
from danet_jax.console.terminal import say
from danet_jax.network import Variables
from danet_jax.runs import config as configuration
from danet_jax.runs.checkpoints import Checkpointer, Record
from danet_jax.runs.folder import CHECKPOINTS, check_same_run
from danet_jax.runtime import compilation, parallel
from danet_jax.runtime.profiling import Profile
from danet_jax.training.interruption import interruptible
from danet_jax.training.monitor import Monitor
from danet_jax.training.setup import Setup
from danet_jax.training.state import TrainState

SCORE = "mean_iou"
# Its name beside the stream's place in a checkpoint.
EVALUATED = "evaluated"
COMPILING = "Compiling, which takes about a minute for a deep network and is cached."
# After so many seconds it is assumed that a cached step is being compiled again.
CACHE_READ_TIMEOUT = 10.0
_DIVERGED_ADVICE = (
    "Restart with --fresh, which moves this run aside, and with a lower "
    "config.optimizer.learning_rate or with clipped gradients (config.train.clip_norm=1)."
)


class Stream(Protocol):
    """An endless iterator of this process's batches that can be resumed."""

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]: ...
    def __next__(self) -> dict[str, np.ndarray]: ...
    def get_state(self) -> dict[str, Any]: ...
    def is_at(self, state: Mapping[str, Any]) -> bool: ...
    def close(self) -> None: ...


@runtime_checkable
class Evaluated(Protocol):
    """Examples that are scored."""

    @property
    def identity(self) -> dict[str, Any]:
        """What tells them from others, as JSON values."""

    def is_same(self, identity: Mapping[str, Any]) -> bool: ...


# Variables, and a function that says whether to stop early → scores, None when stopped.
Evaluate = Callable[[Any, Callable[[], bool]], dict[str, float] | None]


def train(
    config: ml_collections.ConfigDict,
    workdir: Path,
    setup: Setup,
    step_program: compilation.CachedStep,
    *,
    make_stream: Callable[..., Stream],
    evaluate: Evaluate,
    evaluated: Evaluated | None = None,
    start: Variables | None = None,
    profile: Profile | None = None,
) -> signal.Signals | None:
    """Trains to the end, resuming from the workdir's newest checkpoint if there is one.

    Args:
      config: the whole experiment.
      workdir: gets checkpoints/, metrics.jsonl and tensorboard/.
      setup: what the run trains with.
      step_program: of its `cached_step`.
      make_stream: called with next_batch=index, makes the stream of batches from there.
      evaluate: returns scores; the checkpoint with the highest "mean_iou" is kept.
      evaluated: the examples that it scores; None where a run may go on with others.
      start: what a new run starts from in place of random variables; may be a part of them.
      profile: takes note of where the time goes.

    Returns:
      None when done, else the signal that stopped training early, after the state was saved.

    Raises:
      UserError: the loss is not finite, a checkpoint cannot be read or written.
    """
    mesh, total_steps = setup.mesh, setup.settings.total_steps
    num_classes = setup.settings.model.num_classes
    profile = profile or Profile()
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        interruption = stack.enter_context(interruptible(alone=jax.process_count() == 1))
        checkpointer = Checkpointer(workdir / CHECKPOINTS, clean_up=True)
        stack.enter_context(contextlib.closing(checkpointer))

        # -- State: new, or restored --------------------------------------------------------------
        first_step, next_batch, is_scored, record = 0, 0, False, None
        if (latest := checkpointer.latest_step()) is None:
            if not step_program.is_cached:
                # The step is compiled before the state is allocated: the two together would set
                # the peak memory of the run.
                _say_on_main(COMPILING)
                with profile.spend("compilation"):
                    _ = step_program.compiled
            state = setup.create_state(start)
            del start
            jax.block_until_ready(state)
            compilation.trim_heap()
        else:
            state = setup.abstract_state()
            arrays, record = checkpointer.restore(latest, state.arrays)
            state = state.replace(**arrays, key=setup.create_key())
            del arrays
            _check_checkpoints(checkpointer, config, workdir)
            first_step = latest
            next_batch = record.stream.get("next_batch", 0)
            is_scored = checkpointer.has_score(latest)
            if latest == total_steps and is_scored:
                _say_on_main(
                    f"{workdir} is finished: all {total_steps} steps are done. Here is its report; "
                    "--fresh would move the run aside and start anew."
                )
            else:
                _say_on_main(f"{workdir} goes on from step {first_step} of {total_steps}")
        # Metrics of the steps since the last record.
        unlogged: list[dict[str, Any]] = [] if record is None else record.pending
        last_logged_step, logged_input_wait = first_step, 0.0
        stream = stack.enter_context(contextlib.closing(make_stream(next_batch=next_batch)))
        # A checkpoint of imported weights has no position in the data, so nothing is compared.
        if record is not None and record.stream and not stream.is_at(record.stream):
            raise UserError(
                f"{workdir} was trained on other data: images, labels or their order differ, or "
                f"their number (it was {record.stream.get('num_examples')} and is "
                f"{stream.get_state()['num_examples']}). Prepare the data set as it was, give its "
                "folder in --config.data.data_dir, or give --fresh, which begins a new run."
            )

        if record is not None and evaluated is not None:
            _check_evaluated(record.stream.get(EVALUATED), evaluated, workdir)

        def check_finite(unlogged: list[dict[str, Any]], step: int) -> list[dict[str, float]]:
            def labels_at(step: int) -> np.ndarray:
                batches = make_stream(next_batch=next_batch + step - first_step)
                with contextlib.closing(batches):
                    return next(batches)["label"]

            saved_step = checkpointer.latest_step()
            return _check_finite(unlogged, step, saved_step, labels_at, num_classes)

        monitor = stack.enter_context(
            Monitor(
                workdir,
                step=first_step,
                scored=is_scored,
                total_steps=total_steps,
                visible=parallel.is_main_process(),
            )
        )
        # JAX reports a preemption once, at the first step that every process asks about. A run that
        # is resumed asks about the steps that were done, too, or it would miss a notice that came
        # before this process started. It is a list, since `any` would stop at the first True.
        preempted = any([checkpointer.reached_preemption(step) for step in range(first_step)])  # noqa: C419
        stack.enter_context(jax.transfer_guard("disallow"))

        if first_step < total_steps and not step_program.is_ready(timeout=CACHE_READ_TIMEOUT):
            _say_on_main(COMPILING)

        # -- Loop: save, evaluate, next batch, step, write ----------------------------------------
        for step in range(first_step, total_steps + 1):
            is_last = step == total_steps
            preempted |= checkpointer.reached_preemption(step)
            stopping = preempted or bool(interruption)
            has_trained = step > first_step

            # If the run was stopped just before or during an evaluation, it is done now.
            may_evaluate = has_trained or (step > 0 and not is_scored)
            evaluation_pending = (
                may_evaluate and not stopping and (is_last or step % config.train.eval_every == 0)
            )

            # The state is saved first: the evaluation may meet a bad image, run out of memory or
            # be killed.
            save_due = (
                evaluation_pending
                or is_last
                or stopping
                or step % config.train.checkpoint_every == 0
            )
            if has_trained and save_due:
                with profile.spend("step"):
                    unlogged = check_finite(unlogged, step)
                    _check_parameters(state, step, checkpointer.latest_step())
                place = stream.get_state()
                if evaluated is not None:
                    place[EVALUATED] = evaluated.identity
                record = Record(place, config.to_dict(), unlogged)
                with (
                    monitor.paused(),
                    profile.spend("checkpoint"),
                    jax.transfer_guard("allow"),
                ):
                    monitor.flush()
                    checkpointer.save(step, state.arrays, record)

            if evaluation_pending:
                with (
                    monitor.paused(),
                    profile.spend("evaluation"),
                    jax.transfer_guard("allow"),
                ):
                    variables = state.eval_variables
                    # Each process evaluates images of its own, on its own devices.
                    with jax.set_mesh(parallel.local_mesh()):
                        metrics = evaluate(variables, lambda: bool(interruption))
                    del variables
                    if metrics is not None:
                        # So that a record of an evaluation means a whole checkpoint.
                        checkpointer.wait()
                        monitor.write_evaluation(step, metrics)
                        monitor.flush()
                        checkpointer.add_score(step, metrics[SCORE])
                stopping = bool(interruption)
            if is_last or stopping:
                break

            profile.begin_round(wait_for=unlogged)
            with profile.spend("input wait"):
                examples = next(stream)
            with profile.spend("host transfer"):
                batch = parallel.put_batch(examples, mesh, examples=config.train.batch_size)
            with profile.spend("compilation"):
                train_step = step_program.compiled
            with profile.spend("step"):
                state, metrics = train_step(state, batch)
            unlogged.append(metrics)

            monitor.advance(step + 1)
            if (step + 1) % config.train.log_every == 0 or step + 1 == total_steps:
                # This waits for the steps, which so far were only put into a queue.
                with profile.spend("step"):
                    means = _means(check_finite(unlogged, step + 1))
                input_wait = profile.seconds["input wait"]
                steps = step + 1 - last_logged_step
                means["input_wait"] = (input_wait - logged_input_wait) / steps
                unlogged, last_logged_step, logged_input_wait = [], step + 1, input_wait
                monitor.write_training(step + 1, means, batch_size=config.train.batch_size)

        best = checkpointer.best()

    if interruption or stopping:
        saved = f"saved step {step} of {total_steps}" if step else "no step was done yet"
        again = "" if not step else f" `train --workdir={workdir}` goes on from there."
        # With several processes the signal may have reached another one; SIGTERM is reported then.
        _say_on_main(f"{interruption.name or 'SIGTERM'}: {saved} in {workdir}.{again}")
        return interruption.received or signal.SIGTERM
    if best is not None:
        _say_on_main("best mean IoU {1:.4f}, at step {0}".format(*best))
    return None


def _check_checkpoints(
    checkpointer: Checkpointer, config: ml_collections.ConfigDict, workdir: Path
) -> None:
    """Raises a UserError where a checkpoint was copied here from another run.

    The folder's config was checked before. Such a checkpoint would be gone on from, called the best
    of this run, or removed as an old one.
    """
    latest = checkpointer.latest_step()
    for step in reversed(checkpointer.steps()):
        place = workdir / CHECKPOINTS / str(step)
        try:
            recorded = checkpointer.record(step).config
        except UserError:
            # A damaged one matters where it is read.
            if step == latest:
                raise
            continue
        check_same_run(
            configuration.restore(recorded, source=place, training=True),
            config,
            f"{place} is of a run",
        )


def _check_evaluated(before: Any, now: Evaluated, workdir: Path) -> None:
    # Earlier versions noted nothing.
    if before is not None and not now.is_same(before):
        raise UserError(
            f"The earlier checkpoints of {workdir} were scored on other data than "
            "config.data.eval_split gives now: images, labels or their order differ, or their "
            f"number (it was {before.get('num_examples')} and is {now.identity['num_examples']}). "
            "Their scores cannot be compared, so none could be called the best. Prepare the data "
            "set as it was, give its folder in --config.data.data_dir, or give --fresh, which "
            "begins a new run."
        )


def _say_on_main(text: str) -> None:
    if parallel.is_main_process():
        say(text)


def _check_parameters(state: TrainState, step: int, saved_step: int | None) -> None:
    """Raises a UserError if a parameter is not finite, which the loss has not shown yet."""
    for path, leaf in jax.tree.leaves_with_path((state.variables, state.ema)):
        if not np.isfinite(jax.device_get(leaf)).all():
            name = jax.tree_util.keystr(path[-2:], simple=True, separator="/")
            raise UserError(
                f"{name} is not finite after step {step}. {_saved(saved_step)}. {_DIVERGED_ADVICE}"
            )


def _saved(step: int | None) -> str:
    return "No checkpoint was written yet" if step is None else f"Step {step} is saved"


def _check_finite(
    unlogged: list[dict[str, Any]],
    step: int,
    saved_step: int | None,
    labels_at: Callable[[int], np.ndarray],
    num_classes: int,
) -> list[dict[str, float]]:
    """Fetches the metrics of the steps before `step`; a UserError where one is not finite."""
    fetched = [
        {name: float(value) for name, value in metrics.items()}
        for metrics in jax.device_get(unlogged)
    ]
    for offset, metrics in enumerate(fetched):
        if np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"]):
            continue
        at = step - len(fetched) + offset
        saved = _saved(saved_step)
        with jax.transfer_guard("allow"):
            wrong = parallel.merge_over_processes(_wrong_label(labels_at(at), num_classes))
        if np.isfinite(wrong).all():
            raise UserError(
                f"The batch of step {at} contains the label {wrong[0]:g}, but there are only "
                f"{counted(num_classes, 'class', 'classes')} (0 to {num_classes - 1}; 255 is "
                f"ignored), so its loss is undefined. {saved}. Correct the labels, or "
                "config.model.num_classes, prepare the data set again, and start with --fresh, "
                "which moves this run aside."
            )
        raise UserError(
            f"The loss or its gradient is not finite at step {at}: loss {metrics['loss']}, "
            f"gradient norm {metrics['gradient_norm']}. {saved}. {_DIVERGED_ADVICE}"
        )
    return fetched


def _wrong_label(label: np.ndarray, num_classes: int) -> Float32[np.ndarray, " 1"]:
    """Returns the largest label that is neither a class nor ignored, nan where there is none."""
    wrong = label[(label >= num_classes) & (label != IGNORE_LABEL)]
    return np.array([wrong.max() if wrong.size else np.nan], np.float32)


def _means(metrics: list[dict[str, float]]) -> dict[str, float]:
    """Means over some steps, and the last learning rate."""
    means = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
    return means | {"learning_rate": metrics[-1]["learning_rate"]}
