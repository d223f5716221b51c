"""How a run began: by which version, from which data, with which loss of a program's own."""

import contextlib
import functools
import os
import re
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from danet_jax import __version__
from danet_jax.base.errors import NotPreparedError, UserError
from danet_jax.base.json_files import is_there
from danet_jax.runs.config import base_name
from danet_jax.runs.folder import ORIGIN_FILE, read_file, read_weights, write_file

_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")


def write_origin(
    workdir: Path, *, data_dir: Path | str | None, loss: Callable | None = None
) -> None:
    """Notes which version began a run, and from what.

    Args:
      workdir: the run's folder.
      data_dir: where its prepared data set was; None for examples of a program's own.
      loss: a program's own; None for the config's.
    """
    origin = {
        "danet_jax": __version__,
        "data_dir": None if data_dir is None else os.path.abspath(data_dir),
        "loss": name_of(loss),
    }
    write_file(workdir / ORIGIN_FILE, origin)


def read_origin(workdir: Path) -> dict[str, Any] | None:
    """Returns what `write_origin` noted, None for runs of the first release."""
    return read_file(workdir, ORIGIN_FILE) if is_there(workdir / ORIGIN_FILE) else None


def shared_source(workdir: Path) -> dict[str, Any]:
    """Returns where a run's weights come from, for files that are given away.

    They name folders and files without the paths to them, which are of this machine alone.
    """
    weights = read_weights(workdir)
    return {
        "workdir": workdir.resolve().name,
        "weights": None if weights is None else weights | {"file": base_name(weights["file"])},
    }


def check_loss(workdir: Path, loss: Callable | None) -> None:
    """Raises a UserError where a run would go on with another loss of a program's own."""
    before = (read_origin(workdir) or {}).get("loss")
    now = name_of(loss)
    if before != now:
        said = [f"the loss {name}" if name else "the config's loss" for name in (before, now)]
        raise UserError(
            f"{workdir} was trained with {said[0]}, not with {said[1]}: give the same one, as "
            "danet_jax.train(…, loss=function), or another workdir."
        )


def name_of(function: Callable | None) -> str | None:
    """Returns the name of a program's own loss, with what it is bound to; None for none.

    Functions are bound to values by `functools.partial`, as methods, as objects that can be called,
    and as closures.
    """
    if function is None:
        return None
    if isinstance(function, functools.partial):
        bound = [_shown(value) for value in function.args]
        bound += [f"{name}={_shown(value)}" for name, value in sorted(function.keywords.items())]
        return f"{name_of(function.func)}({', '.join(bound)})"
    if isinstance(function, types.MethodType):
        return f"{_named(function)}({_shown(function.__self__)})"
    if isinstance(function, types.FunctionType):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        bound = [f"{name}={_content(cell)}" for name, cell in cells]
        return _named(function) + (f"({', '.join(bound)})" if bound else "")
    attributes = getattr(function, "__dict__", None)
    return _named(function) + (_shown(attributes) if attributes else "")


def _content(cell: types.CellType) -> str:
    try:
        value = cell.cell_contents
    except ValueError:
        # A variable without a value yet.
        return "…"
    # By their names alone, since functions of one scope may hold each other.
    return _named(value) if isinstance(value, types.FunctionType) else _shown(value)


def _named(function: Callable) -> str:
    module = getattr(function, "__module__", "?")
    if module == "__main__" and (file := getattr(sys.modules["__main__"], "__file__", None)):
        # Another program may import the same function from this file.
        module = Path(file).stem
    return f"{module}.{getattr(function, '__qualname__', type(function).__name__)}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, Mapping):
        return f"({', '.join(sorted(f'{_shown(key)}: {_shown(value[key])}' for key in value))})"
    if isinstance(value, set | frozenset):
        return f"({', '.join(sorted(map(_shown, value)))})"
    if isinstance(value, functools.partial | types.FunctionType | types.MethodType):
        return name_of(value) or ""
    if hasattr(value, "tolist"):
        # An array's numbers, however many, in the precision that they have.
        return _shown(value.tolist())
    # The representation of an object may hold an address, which is another one at each start.
    text = repr(value)
    return type(value).__qualname__ if _ADDRESS.search(text) else text


@contextlib.contextmanager
def data_looked_for(workdir: Path) -> Iterator[None]:
    """Adds to an error on a data set that is not there where the run found it when it began."""
    try:
        yield
    except NotPreparedError as error:
        origin = None
        with contextlib.suppress(UserError):
            origin = read_origin(workdir)
        where = ""
        if origin is not None and origin["data_dir"]:
            where = f" The run was trained on that in {origin['data_dir']}."
        raise UserError(
            f"{error}{where} Its folder can be given: --config.data.data_dir=FOLDER."
        ) from None
