"""A workdir from PyTorch's weights: read, converted, and written as a checkpoint of step 0."""

from pathlib import Path

import ml_collections

from danet_jax import input_pipeline
from danet_jax.base.errors import UserError
from danet_jax.base.texts import show
from danet_jax.base.wording import counted
from danet_jax.configs import rules
from danet_jax.interop import torch_weights
from danet_jax.network import Variables, compiled_init, create_model
from danet_jax.runs import folder as run_folder
from danet_jax.runs import opening
from danet_jax.runs.origin import write_origin
from danet_jax.training.setup import save_start

# Fields of the model that change neither the name nor the shape of any array.
_FIELDS_WITHOUT_ARRAYS = ("multi_grid", "output_stride", "align_corners", "channel_energy")


def import_torch(
    config: ml_collections.ConfigDict,
    workdir: Path,
    checkpoint: Path,
    *,
    allow_partial: bool = False,
    fresh: bool = False,
) -> None:
    """Makes a run of PyTorch's weights, and says what was taken and what was not.

    Args:
      config: the experiment, of the same network.
      workdir: the run's folder.
      checkpoint: a .pth, .pth.tar or .safetensors file.
      allow_partial: list what does not fit instead of refusing it.
      fresh: move a run that is there aside.

    Raises:
      UserError: the weights, the data set or the workdir do not fit; nothing is left behind then.
    """
    labels = input_pipeline.labels_of(config.data.name, data_dir=config.data.data_dir)
    rules.settle_num_classes(config, labels.num_classes)
    if not fresh:
        _check_new(workdir)
    model = create_model(config.model)
    weights = torch_weights.convert(
        torch_weights.read_checkpoint(checkpoint, model),
        model,
        initial=lambda: compiled_init(model, config.seed),
        allow_partial=allow_partial,
    )
    source = torch_weights.describe(weights, checkpoint)
    with opening.opened(config, workdir, fresh=fresh, labels=labels, undo=True):
        _write(config, workdir, source, weights.variables)
    _show_result(workdir, config, weights)


def _check_new(workdir: Path) -> None:
    if run_folder.has_checkpoint(workdir):
        raise UserError(
            f"{workdir} holds a run already. Name another --workdir, or give --fresh, which moves "
            "the old run aside."
        )


def _write(
    config: ml_collections.ConfigDict, workdir: Path, source: dict, variables: Variables
) -> None:
    # This is checked again, as another process may have begun a run meanwhile.
    _check_new(workdir)
    # It is written before the checkpoint, so that `train` recognises an interrupted import.
    run_folder.write_weights(workdir, source)
    write_origin(workdir, data_dir=config.data.data_dir)
    save_start(config, workdir, variables)


def _show_result(
    workdir: Path, config: ml_collections.ConfigDict, weights: torch_weights.Weights
) -> None:
    show(f"{counted(weights.count, 'array')} under {weights.naming} names are in {workdir}")
    fields = ", ".join(f"{field}={config.model[field]}" for field in _FIELDS_WITHOUT_ARRAYS)
    show(f"taken from the config, since weights do not determine them: {fields}")
    if weights.naming == "mmsegmentation's" and config.model.multi_grid:
        show("  mmsegmentation's published models have multi_grid=() and align_corners=False")
    if weights.reinitialized:
        show("initialised randomly, as the number of classes differs; train them:")
        show("\n".join(f"  {name}" for name in weights.reinitialized))
    if weights.skipped:
        show("skipped by --allow-partial; what is missing is initialised randomly, train it:")
        show("\n".join(f"  {problem}" for problem in weights.skipped))
