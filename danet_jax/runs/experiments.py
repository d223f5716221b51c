"""Experiments by name or file: where they are, what they are, and which arguments they take."""

import ast
import difflib
import runpy
from pathlib import Path
from typing import Any

from danet_jax.base.errors import UserError
from danet_jax.configs import common

_FOLDER = Path(common.__file__).parent
# Files of that folder which are no experiments.
_OTHERS = ("__init__", "common", "recipes", "rules")
HOW_TO_DEFINE = (
    "define get_config() that returns a config made from danet_jax.configs.common: "
    "config = common.get_config(), then what differs, then return config"
)


def shipped() -> dict[str, Path]:
    """Returns the experiments that come with this package, by name."""
    files = sorted(_FOLDER.glob("*.py"))
    return {file.stem: file for file in files if file.stem not in _OTHERS}


def find(text: str) -> Path:
    """Returns the file of "NAME" or "FILE.py"; a UserError where there is none."""
    path, names = Path(text), shipped()
    if path.is_file():
        if path.suffix != ".py":
            raise UserError(f"--config: {text} is not a config: those are Python files, FILE.py.")
        return path
    if text in names:
        return names[text]
    here = {file.name: str(file) for file in path.parent.glob("*.py")}
    near = difflib.get_close_matches(path.with_suffix(".py").name, here, n=1)
    near_names = difflib.get_close_matches(path.stem, names, n=1)
    if near:
        hint = f"Did you mean {here[near[0]]}?"
    elif near_names:
        hint = f"Did you mean --config={near_names[0]}, which comes with this package?"
    else:
        hint = f"With this package come {', '.join(names)}."
    if path.suffix == ".py" or len(path.parts) > 1:
        raise UserError(f"--config: there is no file {path.absolute()}. {hint}")
    raise UserError(f"--config: there is no experiment {text!r}, nor such a file. {hint}")


def run(path: Path, argument: str) -> Any:
    """Returns what get_config of an experiment's file returns; raises whatever it raises."""
    get_config = runpy.run_path(str(path)).get("get_config")
    if get_config is None:
        raise UserError(f"there is no get_config in it; {HOW_TO_DEFINE}")
    return get_config(argument) if argument else get_config()


def title(path: Path) -> str:
    """Returns the first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def arguments(path: Path) -> dict[str, str]:
    """Returns the arguments of an experiment, "KEY=" or "FLAG", and what each means."""
    known = runpy.run_path(str(path)).get("ARGUMENTS", {})
    return {
        name if argument.is_flag else f"{name}=": argument.meaning
        for name, argument in known.items()
    }
