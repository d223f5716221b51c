"""`config.eval` as the settings of inference that it stands for."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from danet_jax.base.errors import UserError, check_choice
from danet_jax.evaluation.merging import MERGES
from danet_jax.evaluation.presets import PREFIX, PRESETS, check_changes, resolved
from danet_jax.evaluation.settings import MODES, InferenceSettings, inference_settings
from danet_jax.runtime import parallel


def settings_of(config: ml_collections.ConfigDict) -> InferenceSettings:
    """Returns the settings of inference of `config.eval`; a UserError for an invalid value."""
    check_choice("config.eval.preset", config.preset, tuple(PRESETS))
    check_choice("config.eval.mode", config.mode, MODES)
    check_choice("config.eval.merge", config.merge, MERGES)
    if config.batch_size < 1:
        raise UserError(f"config.eval.batch_size is {config.batch_size}; give 1 or more.")
    for field in ("crop_size", "base_size", "short_side", "window_batch"):
        if (config[field] or 0) < 0:
            raise UserError(f"config.eval.{field} is {config[field]}; give 0 or more.")
    devices = parallel.local_mesh().size
    if config.window_batch % devices:
        raise UserError(
            f"config.eval.window_batch is {config.window_batch}; give a multiple of this process's "
            f"{devices} devices, or 0."
        )
    fields = resolved(config)
    if fields["mode"] == "slide" and not fields["crop_size"]:
        raise UserError("config.eval.mode is 'slide': set config.eval.crop_size.")
    return inference_settings(**fields, prefix=PREFIX)


def changed_options(
    config: ml_collections.ConfigDict, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the arguments of `Predictor` of `config.eval`, with some of them changed.

    Raises:
      UserError: a value of `config.eval` or of the options is invalid; see also `check_changes`.
    """
    before = dataclasses.asdict(settings_of(config)) | {"batch_size": config.window_batch or None}
    chosen = before | dict(options)
    check_changes(
        before, options, mode=chosen["mode"], write=lambda field, value: f"{field}={value!r}"
    )
    # The crop_size of the run is dropped where the options choose whole images.
    return chosen | ({"crop_size": None} if chosen["mode"] == "whole" else {})
