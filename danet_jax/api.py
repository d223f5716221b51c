"""Training, evaluation and prediction from Python: what the commands do, a line each."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from danet_jax.base.errors import UserError
from danet_jax.evaluation.scoring import Evaluation
from danet_jax.input_pipeline import Examples, check_examples
from danet_jax.prediction import Predictor
from danet_jax.runs import folder as run_folder
from danet_jax.runs.config import completed, load_config
from danet_jax.runtime import parallel
from danet_jax.runtime.cache import set_up_cache
from danet_jax.tasks.evaluate import evaluate as evaluate_run
from danet_jax.tasks.train import train as train_run
from danet_jax.training.losses import LossFunction


def train(
    config: Any,
    workdir: Path | str,
    *,
    fresh: bool = False,
    train_data: Examples | None = None,
    eval_data: Examples | None = None,
    loss: LossFunction | None = None,
) -> None:
    """Trains a run, or on from its newest checkpoint, and writes its report, as `danet train`.

    SIGTERM and Ctrl-C save the state first where this is the main thread.

    Args:
      config: the experiment as a ConfigDict, which stays as it is, or as `--config` names it:
        "NAME", "FILE.py", "NAME:ARGUMENT".
      workdir: the run's folder.
      fresh: move a run that is there aside and start anew.
      train_data: a program's own examples to train on; None for the config's data set.
      eval_data: a program's own examples to evaluate; given if and only if train_data is.
      loss: a program's own loss in place of config.loss.name, a function that JAX can trace: the
        float32 logits [b, h, w, s] of one map at the label's size and the uint8 labels [b, h, w],
        255 where ignored → a number.

    Raises:
      UserError: the config, the data or the workdir do not fit; nothing was begun then.
      KeyboardInterrupt: SIGINT or SIGTERM ended training early; the state is saved.
    """
    _set_up()
    config = load_config(config) if isinstance(config, str) else completed(config)
    if not jax.distributed.is_initialized():
        parallel.initialize(distributed=config.mesh.distributed, stop_together=True)
    stopped = train_run(
        config,
        Path(workdir),
        fresh=fresh,
        train_data=train_data,
        eval_data=eval_data,
        loss=loss,
    )
    if stopped is not None:
        raise KeyboardInterrupt(stopped.name)


def evaluate(
    workdir: Path | str, *, split: str | Examples | None = None, step: int | None = None
) -> Evaluation:
    """Scores a run and writes its report, as `danet eval`.

    Args:
      workdir: the run's folder.
      split: of the run's data set, or a program's own examples; None for config.data.eval_split.
      step: of the checkpoint; None for the best one.

    Returns:
      The same on every process: `scores.mean_iou`, `scores.iou` (of each class, in the order of the
      names), further `scores`, the `confusion` matrix, and the mean IoU of each image.

    Raises:
      UserError: there is no such run, split or checkpoint, or nothing to score.
    """
    if not isinstance(split, str | None):
        check_examples("split", split)
    _set_up()
    workdir = Path(workdir)
    evaluation = evaluate_run(run_folder.read_config(workdir), workdir, split=split, step=step)
    # It is None for submissions only.
    assert evaluation is not None
    return evaluation


def predict(
    workdir: Path | str, images: Any, *, step: int | None = None
) -> list[UInt8[np.ndarray, "h w"]]:
    """Returns the labels of images, as `danet predict` writes them.

    Args:
      workdir: the run's folder.
      images: a list of paths, Pillow's images or arrays, see `Predictor`.
      step: of the checkpoint; None for the best one.

    Raises:
      UserError: there is no such run or checkpoint, or `images` is no list.
    """
    if not isinstance(images, list | tuple):
        raise UserError(
            f"images is one {type(images).__name__}; give a list of images, such as [image]."
        )
    _set_up()
    return Predictor.from_workdir(workdir, step=step)(list(images))


def _set_up() -> None:
    """Caches compiled programs as the commands do, unless the caller has chosen a folder."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        set_up_cache()
