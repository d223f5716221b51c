"""`config.eval` after its preset, and its checks that need no JAX."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_collections

from danet_jax.base.errors import UserError, check_choice

# "single" and "multi" are the original's evaluations (v0.5.0) of Cityscapes, whose images are 2048
# pixels long; "mmseg-ms" has the scales of mmsegmentation's test-time augmentation.
PRESETS: dict[str, dict[str, Any]] = {
    "": {},
    "single": {
        "mode": "slide",
        "crop_size": 768,
        "base_size": 2048,
        "scales": (1.0,),
        "flip": True,
        "merge": "original",
    },
    "multi": {
        "mode": "slide",
        "crop_size": 1024,
        "base_size": 2048,
        "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.2),
        "flip": True,
        "merge": "original",
    },
    "mmseg-ms": {
        "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        "flip": True,
        "merge": "softmax",
    },
}
# The fields that a preset may set.
_FIELDS = ("mode", "crop_size", "base_size", "scales", "flip", "merge")

# Stands before a field's name in messages.
PREFIX = "config.eval."


def check_overrides(
    config: ml_collections.ConfigDict,
    overrides: Sequence[str],
    *,
    before: ml_collections.ConfigDict | None = None,
) -> None:
    """Raises a UserError for "--config.eval.FIELD=VALUE" where another field makes it ineffective.

    Args:
      config: `config.eval` with the overrides.
      overrides: all "--config.FIELD=VALUE" arguments.
      before: the `config.eval` of the run, before the overrides.
    """
    check_choice("config.eval.preset", config.preset, tuple(PRESETS))
    for override in overrides:
        field = override.removeprefix("--config.eval.").partition("=")[0]
        preset = PRESETS[config.preset]
        if field in preset or (field == "short_side" and "base_size" in preset):
            raise UserError(
                f"{override}: the preset {config.preset!r} sets that field. Give "
                "--config.eval.preset= to choose the fields one by one."
            )
    names = [text.removeprefix("--config.eval.").partition("=")[0] for text in overrides]
    previous = (config if before is None else before).copy_and_resolve_references()
    previous.preset = config.preset
    check_changes(
        resolved(previous),
        {name: config[name] for name in names if name in (*_FIELDS, "short_side")},
        mode=resolved(config)["mode"],
        write=lambda field, value: f"--config.eval.{field}={value or 0}",
    )


def check_changes(
    before: Mapping[str, Any],
    changes: Mapping[str, Any],
    *,
    mode: str,
    write: Callable[[str, Any], str],
) -> None:
    """Raises a UserError for a changed field whose meaning depends on a field left as it was.

    Args:
      before: the fields before the change.
      changes: the fields that are changed.
      mode: the mode after the change.
      write: returns how a user writes a field and its value, such as "mode='slide'".
    """
    for field, other in (("base_size", "short_side"), ("short_side", "base_size")):
        there = before.get(other)
        if field not in changes or other in changes or not there:
            continue
        if field == "base_size" and not changes[field]:
            # No limit is clear beside a short side.
            continue
        both = f"{write(other, there)} to keep both"
        alone = f"Give {write(other, None)} as well to use {field} alone"
        if field == "base_size":
            raise UserError(
                f"{write(field, changes[field])}: in config.eval {other} is {there}, which sets "
                f"the size that {field} only limits. {alone}, or {both}."
            )
        if changes[field] and not before.get(field):
            raise UserError(
                f"{write(field, changes[field])}: in config.eval {other} is {there}, which sets "
                f"the size and would then only limit it. {alone}, or {both}."
            )
    if changes.get("crop_size") and mode == "whole":
        raise UserError(
            f"{write('crop_size', changes['crop_size'])}: mode is 'whole', which has no windows; "
            f"give {write('mode', 'slide')} as well."
        )


def resolved(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the settings of inference of `config.eval` after its preset, not yet checked."""
    preset = PRESETS[config.preset]
    fields = {name: config[name] for name in _FIELDS} | preset
    for name in ("crop_size", "base_size"):
        fields[name] = fields[name] or None
    if fields["mode"] == "whole":
        fields["crop_size"] = None
    fields["short_side"] = None if "base_size" in preset else config.short_side or None
    return fields
