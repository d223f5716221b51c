"""A run's weights as a folder to share: what is known of them is gathered into the model card."""

from pathlib import Path
from typing import Any

from danet_jax.evaluation.predictor import Predictor
from danet_jax.interop import model_card, weights_folder
from danet_jax.network import abstract_variables
from danet_jax.runs import folder as run_folder
from danet_jax.runs import history
from danet_jax.runs.checkpoint_files import trained_images
from danet_jax.runs.config import without_paths
from danet_jax.runs.origin import read_origin, shared_source
from danet_jax.tasks.recipe import recipe
from danet_jax.training.checks import count_steps


def export_folder(workdir: Path, output: Path, *, step: int | None = None) -> Path:
    """Writes the folder of a run's checkpoint, the best one where `step` is None.

    Returns:
      The file of the arrays.

    Raises:
      UserError: there is no such run or checkpoint, or the output holds files; nothing is left
        behind then.
    """
    config = run_folder.read_config(workdir)
    names, colors = run_folder.read_classes(workdir)
    weights = run_folder.read_weights(workdir)
    history.check_readable(workdir)
    predictor = Predictor.from_workdir(workdir, step=step)
    card = _card(workdir, predictor, weights)
    return weights_folder.write(
        predictor,
        output,
        config=config,
        names=names,
        colors=colors,
        card=model_card.render(card),
        source=shared_source(workdir),
    )


def _card(workdir: Path, predictor: Predictor, weights: dict[str, Any] | None) -> model_card.Card:
    config = without_paths(run_folder.read_config(workdir))
    names, colors = run_folder.read_classes(workdir)
    images = trained_images(workdir / run_folder.CHECKPOINTS / str(predictor.step))
    total_steps = None if images is None else count_steps(config, images)
    lines: dict[str, str] = {}
    if images is not None and total_steps is not None:
        lines = recipe(
            config,
            abstract_variables(predictor.model)["params"],
            predictor.settings,
            num_images=images,
            total_steps=total_steps,
            start=model_card.first_weights(weights),
            own_loss=(read_origin(workdir) or {}).get("loss"),
        )
    return model_card.Card(
        config=config,
        names=names,
        colors=colors,
        settings=predictor.settings,
        step=predictor.step,
        total_steps=total_steps,
        trained_images=images,
        parameters=weights_folder.count_parameters(predictor.variables),
        recipe=lines,
        evaluations=[
            record
            for record in history.read_evaluations(workdir)
            if record["step"] == predictor.step
        ],
        weights=weights,
    )
