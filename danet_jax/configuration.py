"""Configs: from a file and the command line, as flat names, and back from JSON."""

import ast
import difflib
import json
import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from configs import common
from danet_jax.errors import UserError
from danet_jax.wording import listed

_HOW_TO_DEFINE = (
    "define get_config() that returns a config made from configs/common.py: "
    "config = common.get_config(), then what differs, then return config"
)


def load_config(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Returns the config of "FILE.py" or "FILE.py:ARGUMENT", changed by "--config.FIELD=VALUE".

    Raises:
      UserError: no such file, none that returns a whole config, an argument that it does not take,
        an unknown field, a value of another type.
    """
    file, _, argument = spec.partition(":")
    path = Path(file)
    if not path.is_file():
        files = [*path.parent.glob("*.py"), *Path("configs").glob("*.py")]
        names = {file.name: file for file in reversed(files)}
        near = difflib.get_close_matches(path.with_suffix(".py").name, names, n=1)
        hint = f" Did you mean {names[near[0]]}?" if near else ""
        raise UserError(f"--config: there is no file {file}.{hint}")
    if path.suffix != ".py":
        raise UserError(f"--config: {file} is not a config: those are Python files, FILE.py.")
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
        if get_config is None:
            raise UserError(f"there is no get_config in it; {_HOW_TO_DEFINE}")
        config = get_config(argument) if argument else get_config()
        _check_whole(config)
    except Exception as error:  # whatever somebody's file raises
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(f"--config {spec}: {kind}{error}") from error
    for override in overrides:
        apply_override(config, override)
    return config


def _check_whole(config: object) -> None:
    """Raises a UserError where a file's config is none, or lacks a group or field."""
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"get_config() returns {config!r}; {_HOW_TO_DEFINE}")
    missing = list(_missing(config.to_dict(), common.get_config().to_dict(), "config"))
    if missing:
        raise UserError(f"there is no {listed(missing)}; {_HOW_TO_DEFINE}")


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
    target[field] = _value(name, text, target[field])


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
        wanted = {int: "a whole number", float: "a number", bool: "True or False", str: "a name"}
        raise UserError(f"--{name}={text}: it takes {wanted[type(default)]}, such as {default}.")
    return value


def restore(recorded: dict[str, Any]) -> ml_collections.ConfigDict:
    """Returns the config that was written as JSON.

    A field that is younger than the record has its default, which is what was done then.
    """
    return ml_collections.ConfigDict(_filled(with_tuples(recorded), common.get_config().to_dict()))


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


def _filled(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    filled = defaults | values
    for name, default in defaults.items():
        if isinstance(default, dict) and isinstance(filled[name], dict):
            filled[name] = _filled(filled[name], default)
    return filled


def with_tuples(value: Any) -> Any:
    """Returns JSON's values with tuples for lists, as configs hold them."""
    if isinstance(value, dict):
        return {name: with_tuples(item) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(with_tuples(item) for item in value)
    return value
