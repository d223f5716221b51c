"""Training, evaluation and prediction from Python: what the commands do, a line each."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from danet_jax.base.errors import UserError
from danet_jax.evaluation.scoring import Evaluation
from danet_jax.prediction import Predictor
from danet_jax.runs import folder as run_folder
from danet_jax.runs.config import completed, load_config
from danet_jax.runtime import parallel
from danet_jax.runtime.cache import set_up_cache
from danet_jax.tasks.evaluate import evaluate as evaluate_run
from danet_jax.tasks.train import train as train_run


def train(config: Any, workdir: Path | str, *, fresh: bool = False) -> None:
    """Trains a run, or on from its newest checkpoint, and writes its report, as `main.py train`.

    SIGTERM and Ctrl-C save the state first where this is the main thread.

    Args:
      config: the experiment as a ConfigDict, which stays as it is, or the "FILE.py" or
        "FILE.py:ARGUMENT" that gives it.
      workdir: the run's folder.
      fresh: move a run that is there aside and start anew.

    Raises:
      UserError: the config, the data or the workdir do not fit; nothing was begun then.
      KeyboardInterrupt: SIGINT or SIGTERM ended training early; the state is saved.
    """
    _set_up()
    config = load_config(config) if isinstance(config, str) else completed(config)
    if not jax.distributed.is_initialized():
        parallel.initialize(distributed=config.mesh.distributed, stop_together=True)
    stopped = train_run(config, Path(workdir), fresh=fresh)
    if stopped is not None:
        raise KeyboardInterrupt(stopped.name)


def evaluate(
    workdir: Path | str, *, split: str | None = None, step: int | None = None
) -> Evaluation:
    """Scores a run and writes its report, as `main.py eval`.

    Args:
      workdir: the run's folder.
      split: of the run's data set; None for config.data.eval_split.
      step: of the checkpoint; None for the best one.

    Raises:
      UserError: there is no such run, split or checkpoint, or nothing to score.
    """
    _set_up()
    workdir = Path(workdir)
    evaluation = evaluate_run(run_folder.read_config(workdir), workdir, split=split, step=step)
    if evaluation is None:
        raise UserError("The scores are on the first of several processes.")
    return evaluation


def predict(
    workdir: Path | str, images: Any, *, step: int | None = None
) -> list[UInt8[np.ndarray, "h w"]]:
    """Returns the labels of images, as `main.py predict` writes them.

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
