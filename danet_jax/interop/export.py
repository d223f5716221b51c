"""Exports a trained model as files that run without this project, each verified on images."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from danet_jax.base.errors import UserError
from danet_jax.base.files import all_or_nothing, check_output
from danet_jax.evaluation.predictor import Predictor
from danet_jax.evaluation.settings import InferenceSettings
from danet_jax.interop.formats import onnx, stablehlo, state_dict
from danet_jax.interop.formats.format import Format, Runner
from danet_jax.interop.remaining_steps import remaining_steps
from danet_jax.interop.torch_files import checksum
from danet_jax.runs.config import without_paths
from danet_jax.runs.versions import run_versions

FORMATS = {
    "torch": state_dict.FORMAT,
    "stablehlo": stablehlo.FORMAT,
    "onnx": onnx.FORMAT,
}
MANIFEST = "manifest.json"
# The least share of pixels at which an artefact's labels must equal the predictor's.
AGREEMENT = 0.999
# The largest difference that a score may have.
LARGEST_DIFFERENCE = 1e-2
# (batch, height, width) of the images that verify an artefact. They are no multiples of a stride.
_TEST_SHAPES = ((1, 93, 131), (2, 45, 38))
# An image that is made smaller verifies it, too, where the side that it is resized to is no larger.
_LARGEST_TEST_SIDE = 640


def export(
    predictor: Predictor,
    output: Path,
    *,
    kind: str,
    config: ml_collections.ConfigDict,
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
    source: Mapping[str, Any],
) -> Path:
    """Writes a model and its manifest to a new folder; returns the model's file.

    Args:
      predictor: the trained model.
      output: a folder that does not exist yet, or is empty.
      kind: a key of FORMATS.
      config: the config that the model was trained with.
      names: names of the classes.
      colors: RGB colours of the classes.
      source: where the weights come from, for the manifest.

    Raises:
      UserError: the folder holds files, a package that the format needs is missing, or the artefact
        predicts something else than the predictor; nothing is left behind then.
    """
    form = FORMATS[kind]
    # Where the folder is a link, its target is written to.
    output = output.resolve()
    # The artefact is in float32 whatever the model was trained in: each platform rounds bfloat16
    # differently.
    model = predictor.model.clone(dtype=jnp.dtype(jnp.float32))
    inside = settings_inside(predictor.settings, form)
    # Whole images are verified with the run's settings even where the file leaves some of them to
    # its user: `load` applies them around it.
    verified = predictor.settings if _is_whole(predictor.settings) else inside
    reference = Predictor(model, predictor.variables, **dataclasses.asdict(verified))
    check_output("--output", output, empty=True)
    with all_or_nothing(output) as temporary:
        path = temporary / form.file
        try:
            form.write(model, predictor.variables, inside, path)
            runner = form.load(path, model, verified)
        except ImportError as error:
            raise UserError(
                f"--format {kind} needs a package that is missing or does not load: {error}. "
                "`pip install -r requirements-interop.txt` installs all that exports need."
            ) from error
        checks = [_verify(runner, reference, shape) for shape in _test_shapes(verified)]
        steps = remaining_steps(predictor.settings, inside)
        files = sorted(file for file in temporary.iterdir() if file.is_file())
        manifest = {
            "format": kind,
            "usage": " ".join([form.usage, *steps]),
            # The settings of the run's `predict`, and those that the file applies itself.
            "prediction": {
                "run": dataclasses.asdict(predictor.settings),
                "inside_the_file": dataclasses.asdict(inside),
                "left_to_the_caller": steps,
            },
            "classes": [
                {"id": index, "name": name, "color": list(color)}
                for index, (name, color) in enumerate(zip(names, colors, strict=True))
            ],
            **form.interface(model, names),
            "model": without_paths(config).model.to_dict() | {"dtype": "float32"},
            "source": dict(source),
            "verified": checks,
            "files": {
                file.name: {"bytes": file.stat().st_size, "sha256": checksum(file)}
                for file in files
            },
            "versions": run_versions(),
        }
        # The manifest is written last, so that a folder with a manifest is complete.
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n")
    return output / form.file


def settings_inside(run: InferenceSettings, form: Format) -> InferenceSettings:
    """Returns the settings that a file of the format applies itself; the defaults where none."""
    return run if form.applies_settings and _is_whole(run) else InferenceSettings()


def _is_whole(settings: InferenceSettings) -> bool:
    # The exponentials of the rule "original" could overflow in one file for all images.
    return settings.mode == "whole" and settings.merge == "softmax"


def _test_shapes(settings: InferenceSettings) -> list[tuple[int, int, int]]:
    """Shapes of the images that verify a file, among them some that it makes smaller."""
    shapes = list(_TEST_SHAPES)
    if settings.short_side:
        if settings.short_side <= _LARGEST_TEST_SIDE:
            shapes.append((1, settings.short_side * 3 // 2 + 1, settings.short_side * 5 // 4 + 1))
        if settings.base_size and settings.base_size <= _LARGEST_TEST_SIDE:
            # This one is so long that the long side decides its size.
            thin = max(settings.short_side // 2, 1)
            shapes.append((1, thin, thin * settings.base_size // settings.short_side * 2 + 1))
    elif settings.base_size and settings.base_size <= _LARGEST_TEST_SIDE:
        shapes.append((1, settings.base_size * 5 // 4 + 1, settings.base_size * 3 // 4 + 1))
    return shapes


def _verify(runner: Runner, predictor: Predictor, shape: tuple[int, int, int]) -> dict[str, Any]:
    """Compares an artefact with the predictor on images; raises a UserError where it differs."""
    batch, height, width = shape
    generator = np.random.default_rng(0)
    # The images are smooth, so that labels come in areas, as in photographs.
    coarse = generator.integers(0, 256, (batch, 12, 17, 3)).astype(np.float32)
    image = np.asarray(jax.image.resize(coarse, (batch, height, width, 3), "cubic"))
    image = np.clip(image, 0, 255).astype(np.uint8)
    labels, scores = runner(image)
    expected = predictor.labels(image)
    probabilities = np.stack([predictor.scores(one) for one in image])
    if not np.isfinite(probabilities).all():
        raise UserError(
            "the run's own scores are not finite, so there is no model to export. Name another "
            "checkpoint with --step."
        )
    fits = labels.shape == expected.shape and scores.shape == probabilities.shape
    agreement = float(np.mean(labels == expected)) if fits else 0.0
    difference = float(np.abs(scores - probabilities).max()) if fits else np.inf
    # The comparisons are written so that they fail where a difference is nan.
    if not (agreement >= AGREEMENT and difference <= LARGEST_DIFFERENCE):
        raise UserError(
            f"the exported model labels only {agreement:.2%} of a test image's pixels as the "
            f"run's own does, and scores differ by up to {difference:.1e}; nothing was written."
        )
    return {
        "images": list(shape),
        "equal_labels": agreement,
        "largest_score_difference": difference,
    }
