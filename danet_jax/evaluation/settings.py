"""How an experiment's images are looked at: `config.eval` as the predictor's arguments."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import ml_collections

from danet_base.errors import UserError, check_choice
from danet_jax.evaluation.look import MODES, Look, check_cost, make_look
from danet_jax.evaluation.merging import MERGES
from danet_jax.runtime import parallel

# The original's (v0.5.0) for Cityscapes, whose images are 2048 pixels long, and the scales of
# mmsegmentation's test-time augmentation.
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
# What `config.eval` itself says where no preset does.
_FIELDS = ("mode", "crop_size", "base_size", "scales", "flip", "merge")


# What messages set before a field.
_PREFIX = "config.eval."


def check_settings(config: ml_collections.ConfigDict) -> None:
    """Raises a UserError for a value of `config.eval` that no image can be looked at with."""
    check_choice("config.eval.preset", config.preset, tuple(PRESETS))
    check_choice("config.eval.mode", config.mode, MODES)
    check_choice("config.eval.merge", config.merge, MERGES)
    for field in ("crop_size", "base_size", "short_side", "window_batch"):
        if (config[field] or 0) < 0:
            raise UserError(f"config.eval.{field} is {config[field]}; give 0 or more.")
    devices = parallel.local_mesh().size
    if config.window_batch % devices:
        raise UserError(
            f"config.eval.window_batch is {config.window_batch}; give a multiple of this process's "
            f"{devices} devices, or 0."
        )
    if resolved(config)["mode"] == "slide" and not resolved(config)["crop_size"]:
        raise UserError("config.eval.mode is 'slide': set config.eval.crop_size.")
    look(config)


def check_sizes(
    config: ml_collections.ConfigDict, sizes: Iterable[tuple[int, int]], *, num_classes: int
) -> None:
    """Raises a UserError where an image of these (height, width) takes more than there is.

    Args:
      config: `config.eval`.
      sizes: of all images.
      num_classes: of the scores.
    """
    chosen = look(config)
    at_a_time = config.window_batch or parallel.local_mesh().size
    if chosen.is_plain:
        at_a_time = max(config.batch_size, at_a_time)
    for size in set(sizes):
        check_cost(
            chosen, size, num_classes=num_classes, windows_at_a_time=at_a_time, prefix=_PREFIX
        )


def look(config: ml_collections.ConfigDict) -> Look:
    """Returns how `config.eval` looks at images; a UserError for what cannot be."""
    return make_look(**_look_options(config), prefix=_PREFIX)


def _look_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
    found = resolved(config)
    for field in ("crop_size", "base_size"):
        found[field] = found[field] or None
    return found


def check_overrides(
    config: ml_collections.ConfigDict,
    overrides: Sequence[str],
    *,
    before: ml_collections.ConfigDict | None = None,
) -> None:
    """Raises a UserError for "--config.eval.FIELD=VALUE" where that would not do what it says.

    Args:
      config: `config.eval` with the overrides.
      overrides: all arguments of that kind.
      before: a run's own `config.eval`.
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
    former = (config if before is None else before).copy_and_resolve_references()
    former.preset = config.preset
    check_changes(
        resolved(former),
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
    """Raises a UserError for a changed field that another one, left as it was, gives a new meaning.

    Args:
      before: the fields that were there.
      changes: those that take their place.
      mode: how images are looked at with them.
      write: returns the words by which a person gives a field a value, "mode='slide'".
    """
    for field, other in (("base_size", "short_side"), ("short_side", "base_size")):
        there = before.get(other)
        if field not in changes or other in changes or not there:
            continue
        both = f"{write(other, there)} to keep both"
        alone = f"Give {write(other, None)} besides to go by {field} alone"
        if field == "base_size":
            raise UserError(
                f"{write(field, changes[field])}: {other} is {there} by config.eval and gives the "
                f"size, which {field} only limits. {alone}, or {both}."
            )
        if changes[field] and not before.get(field):
            raise UserError(
                f"{write(field, changes[field])}: {other} is {there} by config.eval and gives the "
                f"size, which it would only limit then. {alone}, or {both}."
            )
    if changes.get("crop_size") and mode == "whole":
        raise UserError(
            f"{write('crop_size', changes['crop_size'])}: nothing is cut from whole images; give "
            f"{write('mode', 'slide')} besides."
        )


def changed_options(
    config: ml_collections.ConfigDict, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns `predictor_options` with some of them changed.

    Raises:
      UserError: one of `config.eval` or of the changes cannot be, see `check_changes`.
    """
    before = predictor_options(config)
    chosen = before | dict(options)
    check_changes(
        before, options, mode=chosen["mode"], write=lambda field, value: f"{field}={value!r}"
    )
    # The windows of the run are not those of whole images.
    return chosen | ({"crop_size": None} if chosen["mode"] == "whole" else {})


def resolved(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns `config.eval`'s fields, with what its preset sets; "short_side" where it is not 0."""
    preset = PRESETS[config.preset]
    found = {field: config[field] for field in _FIELDS} | preset
    # Where it was left open and nothing is known of training.
    found["base_size"] = found["base_size"] or 0
    # No two settings for one look.
    if found["mode"] == "whole":
        found["crop_size"] = 0
    if config.short_side and "base_size" not in preset:
        found["short_side"] = config.short_side
    return found


def predictor_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the arguments of `Predictor` that `config.eval` stands for."""
    check_settings(config)
    return _look_options(config) | {"batch_size": config.window_batch or None}


def describe(settings: dict[str, Any]) -> str:
    """Returns what `resolved` says, in a line."""
    scales = settings["scales"]
    numbers = ", ".join(f"{scale:g}" for scale in scales)
    parts = [_look(settings), f"scale{'s' * (len(scales) > 1)} {numbers}"]
    if settings["flip"]:
        parts.append("mirrored")
    return ", ".join([*parts, settings["merge"]])


def _look(settings: dict[str, Any]) -> str:
    long_side = settings["base_size"]
    if short_side := settings.get("short_side"):
        limit = f" (long side at most {long_side})" if long_side else ""
        size = f", short side {short_side}{limit}"
    else:
        size = f", long side {long_side}" if long_side else ""
    if settings["mode"] == "whole":
        return f"whole image{size}"
    return f"windows of {settings['crop_size']}×{settings['crop_size']}{size}"
