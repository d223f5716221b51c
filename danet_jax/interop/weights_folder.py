"""Weights as a folder to share: written whole, and read without running anything that is in it."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
import safetensors.numpy

from danet_jax.base.errors import UserError
from danet_jax.base.files import all_or_nothing, check_output
from danet_jax.base.wording import listed
from danet_jax.evaluation.predictor import Predictor
from danet_jax.interop.torch_files import checksum
from danet_jax.interop.torch_weights import read_checkpoint
from danet_jax.interop.weights_files import (
    ARRAYS_FILE,
    CARD_FILE,
    CHECKED_FILES,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    check_files,
    read_manifest,
)
from danet_jax.models.danet import DANet
from danet_jax.network import Variables, abstract_variables, create_model
from danet_jax.runs import folder as run_folder
from danet_jax.runs.config import without_paths
from danet_jax.runs.versions import run_versions

_USAGE = "danet_jax.Predictor.from_folder(FOLDER)(IMAGE) returns the labels that the run gives."


@dataclasses.dataclass(frozen=True)
class WeightsFolder:
    """What a folder holds: a network with its variables, and what a predictor needs besides."""

    config: ml_collections.ConfigDict
    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    model: DANet
    variables: Variables
    # The step of the checkpoint; None where it was none.
    step: int | None


def write(
    predictor: Predictor,
    output: Path,
    *,
    config: ml_collections.ConfigDict,
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
    card: str,
    source: Mapping[str, Any],
) -> Path:
    """Writes the folder of a predictor, and reads it back; returns the file of the arrays.

    Args:
      predictor: of the run, by its own settings.
      output: a folder that does not exist yet, or is empty.
      config: of the run; paths of this machine are left out.
      names: names of the classes.
      colors: RGB colours of the classes.
      card: the model card, in Markdown.
      source: where the weights come from, for the manifest.

    Raises:
      UserError: the folder holds files, or what is read back is not what was written; nothing is
        left behind then.
    """
    output = output.resolve()
    check_output("--output", output, empty=True)
    shared = without_paths(config)
    arrays = _by_name(jax.device_get(predictor.variables))
    classes = {"names": list(names), "colors": [list(color) for color in colors]}
    with all_or_nothing(output) as temporary:
        (temporary / ARRAYS_FILE).write_bytes(
            safetensors.numpy.save(
                {name: np.asarray(array, order="C") for name, array in arrays.items()},
                metadata={"format": "flax"},
            )
        )
        _write_json(temporary / run_folder.CONFIG_FILE, shared.to_dict())
        _write_json(temporary / run_folder.CLASSES_FILE, classes)
        (temporary / CARD_FILE).write_text(card, encoding="utf-8")
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "usage": _USAGE,
            "step": predictor.step,
            "prediction": {"run": dataclasses.asdict(predictor.settings)},
            "arrays": len(arrays),
            "parameters": count_parameters(predictor.variables),
            "source": dict(source),
            "files": {
                name: {
                    "bytes": (temporary / name).stat().st_size,
                    "sha256": checksum(temporary / name),
                }
                for name in CHECKED_FILES
            },
            "versions": run_versions(),
        }
        # The manifest is written last, so that a folder with a manifest is complete.
        _write_json(temporary / MANIFEST, manifest)
        _verify(read(temporary), arrays, config)
    return output / ARRAYS_FILE


def read(folder: Path) -> WeightsFolder:
    """Reads a folder that `write` wrote; no file but those that it names is opened.

    Raises:
      UserError: it is no such folder, a file is missing or another one than was exported, or the
        arrays are not those of the config's network.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    config = run_folder.read_config(folder)
    names, colors = run_folder.read_classes(folder)
    model = create_model(config.model)
    path = folder / ARRAYS_FILE
    variables = _nested(read_checkpoint(path, model), abstract_variables(model), path)
    return WeightsFolder(config, names, colors, model, variables, manifest.get("step"))


def count_parameters(variables: Variables) -> int:
    """Returns the number of parameters, without the statistics of batch norms."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def _verify(
    found: WeightsFolder, arrays: Mapping[str, np.ndarray], config: ml_collections.ConfigDict
) -> None:
    """Raises a UserError where a folder would not predict, bit for bit, as its run does."""
    back = _by_name(found.variables)
    differing = [name for name, array in arrays.items() if not np.array_equal(array, back[name])]
    differing += ["config.eval"] if found.config.eval != without_paths(config).eval else []
    if differing:
        raise UserError(
            f"the folder does not hold what was written to it: {listed(differing)} came back "
            "otherwise; nothing was kept. Its disk may fail: name another --output."
        )


def _nested(arrays: Mapping[str, np.ndarray], wanted: Variables, path: Path) -> Variables:
    """Returns arrays in the tree of the wanted shapes; a UserError lists what does not fit."""
    shapes = _by_name(wanted)
    problems = [f"missing: {name}" for name in shapes if name not in arrays]
    problems += [f"left over: {name}" for name in arrays if name not in shapes]
    for name, shape in shapes.items():
        if (array := arrays.get(name)) is None:
            continue
        if array.shape != shape.shape or array.dtype != shape.dtype:
            problems.append(
                f"{name} is {array.dtype} {array.shape}, the network's is {shape.dtype} "
                f"{shape.shape}"
            )
        elif not np.isfinite(array).all():
            problems.append(f"not finite: {name}")
    if problems:
        raise UserError(
            f"{path} does not fit the network of {run_folder.CONFIG_FILE} beside it: "
            f"{listed(problems)}. Export the run anew."
        )
    return _map_by_name(lambda name: arrays[name], wanted)


def _by_name(variables: Variables) -> dict[str, Any]:
    """Leaves by their paths in the tree: "params.backbone.stem.conv.kernel"."""
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(variables)}


def _map_by_name(function: Callable[[str], Any], tree: Variables) -> Variables:
    return jax.tree.map_with_path(lambda path, _: function(_name(path)), tree)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
