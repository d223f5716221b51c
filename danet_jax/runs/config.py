"""Configs: from a file and the command line, as flat names, and back from JSON."""

import ast
import difflib
import functools
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line
from danet_jax.base.wording import listed
from danet_jax.configs import common
from danet_jax.console.terminal import say
from danet_jax.runs import experiments
from danet_jax.runs.experiments import HOW_TO_DEFINE

# How runs were done before a field existed that is left open now.
_THEN = {"config.eval.short_side": 0}
_WANTED = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a name",
    tuple: "a list",
}
# Fields that each version has recorded: without them a record is torn and not old.
_ALWAYS_RECORDED = frozenset(
    [
        *(f"config.{group}" for group in ("model", "data", "train", "optimizer", "loss", "eval")),
        *("config.model.backbone", "config.model.num_classes", "config.model.output_stride"),
        *("config.data.name", "config.train.batch_size"),
    ]
)


def load_config(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Returns the config of "NAME", "FILE.py" or "…:ARGUMENT", changed by "--config.FIELD=VALUE".

    Raises:
      UserError: no such file, none that returns a whole config, an argument that it does not take,
        an unknown field, a value of another type.
    """
    name, _, argument = spec.partition(":")
    path = experiments.find(name)
    try:
        config = experiments.run(path, argument)
        _check_whole(config)
    except Exception as error:  # whatever somebody's file raises
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(f"--config {spec}: {kind}{error}") from error
    for override in overrides:
        apply_override(config, override)
    common.complete(config)
    return config


def completed(config: object) -> ml_collections.ConfigDict:
    """Returns a copy of an experiment with its open fields set, as `load_config` sets them.

    Raises:
      UserError: it is no config, or lacks a field.
    """
    try:
        _check_whole(config)
    except UserError as error:
        raise UserError(f"config: {error}") from None
    # A frozen one cannot be completed.
    copy = ml_collections.ConfigDict(config).copy_and_resolve_references()
    common.complete(copy)
    return copy


def _check_whole(config: object) -> None:
    """Raises a UserError where a file's config is none, or lacks a group or field."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"get_config() returns {config!r}; {HOW_TO_DEFINE}")
    missing = list(_missing(config.to_dict(), common.get_config().to_dict(), "config"))
    if missing:
        raise UserError(f"there is no {listed(missing)}; {HOW_TO_DEFINE}")


def _missing(values: dict, defaults: dict, prefix: str) -> Iterator[str]:
    """Names of the groups and fields among the defaults that a config does not have."""
    for name, default in defaults.items():
        path = f"{prefix}.{name}"
        if name not in values or isinstance(values[name], dict) != isinstance(default, dict):
            yield path
        elif isinstance(default, dict):
            yield from _missing(values[name], default, path)


def apply_override(config: ml_collections.ConfigDict, override: str) -> None:
    """Changes a field by "--config.FIELD=VALUE"; a UserError where that cannot be."""
    name, separator, text = override.removeprefix("--").partition("=")
    if not name.startswith("config.") or not separator:
        raise UserError(f"{override}: not an option; a config field is --config.FIELD=VALUE.")
    *groups, field = name.removeprefix("config.").split(".")
    target: Any = config
    for depth, group in enumerate([*groups, field]):
        if not isinstance(target, ml_collections.ConfigDict) or group not in target:
            prefix = ".".join(["config", *groups[:depth]])
            fields = list(target) if isinstance(target, ml_collections.ConfigDict) else []
            elsewhere = [path for path in flat(config) if path.rpartition(".")[2] == group]
            near = [f"config.{path}" for path in elsewhere] or [
                f"{prefix}.{match}" for match in difflib.get_close_matches(group, fields, n=1)
            ]
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            known = f" It has {', '.join(sorted(fields))}." if fields and not near else ""
            raise UserError(f"--{name}: {prefix} has no field {group!r}.{hint}{known}")
        if depth < len(groups):
            target = target[group]
    default = target[field]
    if (path := name.removeprefix("config.")) in common.OPEN:
        if text == "auto":
            target[field] = None
            return
        default = common.OPEN[path]
    target[field] = _value(name, text, default)


def _value(name: str, text: str, default: Any) -> Any:
    """The value of `text` in the type that the field has."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        value = {"true": True, "false": False}.get(text.lower(), text)
    if isinstance(default, ml_collections.ConfigDict):
        fields = ", ".join(f"--{name}.{field}" for field in default)
        raise UserError(f"--{name}={text}: it is a group of fields; name one of {fields}.")
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        if isinstance(value, str):
            value = tuple(part.strip() for part in value.split(",") if part.strip())
        items = tuple(value) if isinstance(value, tuple | list) else (value,)
        return tuple(_typed(name, text, item, default[0]) for item in items) if default else items
    return _typed(name, text, value, default)


def _typed(name: str, text: str, value: Any, default: Any) -> Any:
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise UserError(f"--{name}={text}: it takes {_WANTED[type(default)]}, such as {default}.")
    return value


def restore(
    recorded: dict[str, Any], *, source: object = "the recorded config", training: bool = False
) -> ml_collections.ConfigDict:
    """Returns the config that was written as JSON, also by another version of this program.

    A field that is younger than the record has its default in configs/common.py, which is what was
    done then, and a line says so. One that is not known here may have changed the network, its
    evaluation or, where the run is to go on, its training: it is refused; another one is said.

    Args:
      recorded: JSON's values.
      source: whose they are, for messages.
      training: the run goes on, so that every field counts.

    Raises:
      UserError: names the field that is missing from every version's record, of another type, or
        not known, and what to do.
    """
    missing: list[str] = []
    unknown: list[str] = []
    try:
        values = _fitted(recorded, common.get_config().to_dict(), "config", missing, unknown)
    except UserError as error:
        raise UserError(
            f"{source} cannot be read: {error} Mend it, or take it from a copy: each checkpoint "
            'holds the config, too, as "config" in checkpoints/STEP/record/metadata.'
        ) from None
    refused = [name for name in unknown if training or _decides(name)]
    if refused:
        known = list(flat(ml_collections.ConfigDict(values)))
        near = difflib.get_close_matches(refused[0].removeprefix("config."), known, n=1)
        hint = f" Did you mean config.{near[0]}?" if near else ""
        raise UserError(
            f"{source}: this version does not know {listed(refused)}, so what it stands for would "
            f"be left out.{hint} Use the version that wrote the run, or correct the name in it."
        )
    if unknown:
        _note(f"{source}: left out, as this version does not know it: {listed(unknown)}")
    if missing:
        _note(
            f"{source} is of a version without {listed(missing)}: the values of "
            "configs/common.py are taken, which are what was done then"
        )
    return ml_collections.ConfigDict(values)


def without_paths(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns a copy that says nothing of the machine's folders, to be given to others.

    The folder of data sets is the default one, and of a file of weights only the name stays.
    """
    copy = ml_collections.ConfigDict(config).copy_and_resolve_references()
    copy.data.data_dir = common.get_config().data.data_dir
    if copy.model.pretrained_backbone:
        copy.model.pretrained_backbone = base_name(copy.model.pretrained_backbone)
    return copy


def base_name(path: str) -> str:
    """Returns the last part of a path, also of one from another system."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def is_recorded(values: dict[str, Any]) -> bool:
    """Whether JSON's values are of a config: many programs have files that look a little alike."""
    for name in _ALWAYS_RECORDED:
        _, group, *field = name.split(".")
        if not isinstance(values.get(group), dict) or (field and field[0] not in values[group]):
            return False
    return True


def _decides(name: str) -> bool:
    """True where a field may change what a trained network answers."""
    _, group, *rest = name.split(".")
    return not rest or group in ("model", "eval")


@functools.cache
def _note(text: str) -> None:
    """Says it once, however often a command reads the same file."""
    say(text)


def _fitted(
    values: dict[str, Any],
    defaults: dict[str, Any],
    prefix: str,
    missing: list[str],
    unknown: list[str],
) -> dict[str, Any]:
    """The values in the types of the defaults; notes what stands on one side alone."""
    fitted: dict[str, Any] = {}
    for name, default in defaults.items():
        path = f"{prefix}.{name}"
        if name not in values:
            if path in _ALWAYS_RECORDED:
                raise UserError(f"{path} is missing.")
            missing.append(path)
            fitted[name] = _THEN.get(path, default)
        elif isinstance(default, dict):
            if not isinstance(values[name], dict):
                raise UserError(f"{path} is {_shown(values[name])}; it is a group of fields.")
            fitted[name] = _fitted(values[name], default, path, missing, unknown)
        elif default is None:
            example = common.OPEN[path.removeprefix("config.")]
            is_open = values[name] is None
            fitted[name] = None if is_open else _converted(path, values[name], example)
        else:
            fitted[name] = _converted(path, values[name], default)
    unknown += [f"{prefix}.{one_line(name, longest=60)}" for name in values if name not in defaults]
    return fitted


def _converted(path: str, value: Any, default: Any) -> Any:
    """The value in the default's type, where that loses nothing."""
    if isinstance(default, tuple) and isinstance(value, list):
        like = default[0] if default else 0.0
        return tuple(_converted(f"{path}[{i}]", item, like) for i, item in enumerate(value))
    wanted = type(default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if wanted in (int, float) and is_number and math.isfinite(value) and wanted(value) == value:
        return wanted(value)
    if type(value) is not wanted or wanted in (int, float):
        example = list(default) if wanted is tuple else default
        raise UserError(
            f"{path} is {_shown(value)}; it takes {_WANTED[wanted]}, such as {example!r}."
        )
    return value


def _shown(value: Any) -> str:
    return one_line(json.dumps(value)[:200], longest=60)


def flat(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the config's values by their dotted names."""
    # Through JSON, so that a config just made compares equal to the same one read back.
    return dict(_leaves(with_tuples(json.loads(json.dumps(config.to_dict()))), ""))


def _leaves(tree: dict, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def with_tuples(value: Any) -> Any:
    """Returns JSON's values with tuples for lists, as configs hold them."""
    if isinstance(value, dict):
        return {name: with_tuples(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(with_tuples(item) for item in value)
    return value
