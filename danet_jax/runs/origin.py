"""How a run began: by which version, from which data, with which loss of a program's own."""

import ast
import contextlib
import functools
import hashlib
import inspect
import logging
import os
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from danet_jax import __version__
from danet_jax.base.errors import NotPreparedError, UserError
from danet_jax.base.json_files import is_there
from danet_jax.runs.config import base_name
from danet_jax.runs.folder import ORIGIN_FILE, read_file, read_weights, write_file

# Numbers of an array that are shown; of more, a checksum is.
_FEW = 16
_DIGITS = 16
# How deeply objects within objects are described, and characters of the whole.
_DEEPEST = 40
_LONGEST = 400
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
        "loss_code": code_of(loss),
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


def check_loss(workdir: Path, loss: Callable | None) -> str:
    """Raises a UserError where a run would go on with another loss of a program's own.

    Returns:
      A warning where it has the same name and other code, else "".
    """
    origin = read_origin(workdir) or {}
    before = origin.get("loss")
    now = name_of(loss)
    if before != now:
        said = [f"the loss {name}" if name else "the config's loss" for name in (before, now)]
        raise UserError(
            f"{workdir} was trained with {said[0]}, not with {said[1]}: give the same one, as "
            "danet_jax.train(…, loss=function), or another workdir."
        )
    code = origin.get("loss_code")
    if code is None or code == code_of(loss):
        return ""
    return (
        f"the code of the loss {now}, or a global variable that it reads, has changed since "
        f"{workdir} was begun: its first steps were trained with the former one. Give --fresh "
        "(fresh=True) where that is not what you want."
    )


def code_of(function: Callable | None) -> str | None:
    """Returns a checksum of a program's own loss: of its code and of the globals that it reads.

    The functions of its own package that it calls count, those of libraries do not. Comments and
    the place in the file do not, either.
    """
    if function is None:
        return None
    description = _Description()
    description.of(function)
    text = "\n".join(description.sources)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def name_of(function: Callable | None) -> str | None:
    """Returns the name of a program's own loss, with what it is bound to; None for none.

    Functions are bound to values by `functools.partial`, by closures, by the defaults of their
    arguments, as methods, and as objects that can be called.
    """
    if function is None:
        return None
    name = _Description().of(function)
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST // 2]}… {hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}"


class _Description:
    """Values in words that are the same at each start of a program, and others for other values."""

    def __init__(self) -> None:
        # What is being described: functions and objects may hold each other.
        self._open: list[Any] = []
        # The code of the functions of the first one's package, and the globals that they read.
        self.sources: list[str] = []
        self._package: str | None = None
        self._noted: set[types.CodeType] = set()

    def of(self, value: Any) -> str:
        for level, one in enumerate(self._open):
            if value is one:
                return f"…{level}"
        if len(self._open) == _DEEPEST:
            return _named(value)
        self._open.append(value)
        try:
            return self._of(value)
        finally:
            self._open.pop()

    def _of(self, value: Any) -> str:
        if isinstance(value, type | types.ModuleType):
            return _named(value)
        if isinstance(value, types.BuiltinFunctionType):
            held_by = getattr(value, "__self__", None)
            is_bound = held_by is not None and not isinstance(held_by, types.ModuleType)
            return f"{_named(value)}({self.of(held_by)})" if is_bound else _named(value)
        if isinstance(value, logging.Logger):
            # It leads to all loggers of the process.
            return f"{_named(value)}({value.name!r})"
        if hasattr(value, "__array__") and hasattr(value, "tolist"):
            return self._of_array(np.asarray(value))
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            return repr(value)
        if type(value) in (tuple, list):
            return f"({', '.join(map(self.of, value))})"
        if type(value) is dict:
            return f"({', '.join(self._items(value))})"
        if type(value) in (set, frozenset):
            return f"({', '.join(sorted(map(self.of, value)))})"
        if isinstance(value, functools.partial):
            bound = [self.of(one) for one in value.args]
            bound += [f"{name}={self.of(one)}" for name, one in sorted(value.keywords.items())]
            return f"{self.of(value.func)}({', '.join(bound)})"
        if isinstance(value, types.MethodType):
            return f"{self.of(value.__func__)}({self.of(value.__self__)})"
        if isinstance(value, types.FunctionType):
            return self._of_function(value)
        return self._of_object(value)

    def _items(self, mapping: Mapping[Any, Any]) -> list[str]:
        return sorted(f"{self.of(key)}: {self.of(mapping[key])}" for key in mapping)

    def _of_function(self, function: types.FunctionType) -> str:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        bound = {name: self._content(cell) for name, cell in cells}
        parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
        bound |= {
            one.name: self.of(one.default) for one in parameters if one.default is not one.empty
        }
        self._note_code(function)
        held = ", ".join(f"{name}={shown}" for name, shown in bound.items())
        return _function_name(function) + (f"({held})" if held else "")

    def _note_code(self, function: types.FunctionType) -> None:
        package = (function.__module__ or "").partition(".")[0]
        self._package = self._package or package
        if package != self._package or function.__code__ in self._noted:
            return
        self._noted.add(function.__code__)
        self.sources.append(_source_of(function))
        for name in sorted(_names_in(function.__code__) & function.__globals__.keys()):
            value = function.__globals__[name]
            if isinstance(value, types.FunctionType):
                self.of(value)
            elif not isinstance(value, type | types.ModuleType):
                self.sources.append(f"{name} = {self.of(value)}")

    def _content(self, cell: types.CellType) -> str:
        try:
            return self.of(cell.cell_contents)
        except ValueError:
            # A variable without a value yet.
            return "…"

    def _of_array(self, array: np.ndarray) -> str:
        if array.size <= _FEW:
            return self.of(array.tolist())
        data = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return f"array({array.dtype} {list(array.shape)} {data[:_DIGITS]})"

    def _of_object(self, value: Any) -> str:
        kind = type(value)
        is_of_jax = kind.__module__.partition(".")[0] in ("jax", "jaxlib")
        if is_of_jax and callable(getattr(value, "__wrapped__", None)):
            # Such as `jax.jit`, which holds caches beside the function.
            return f"{kind.__qualname__}({self.of(value.__wrapped__)})"
        held = self._items(_attributes(value))
        if isinstance(value, Mapping):
            held += self._items(value)
        elif isinstance(value, tuple | list):
            held += map(self.of, value)
        elif isinstance(value, set | frozenset):
            held += sorted(map(self.of, value))
        call = getattr(kind, "__call__", None)  # noqa: B004
        if isinstance(call, types.FunctionType):
            self._note_code(call)
            if call.__closure__ or call.__defaults__:
                held.append(self.of(call))
        if held:
            return f"{_named(value)}({', '.join(held)})"
        # The representation of an object may hold an address, which is another one at each start.
        text = repr(value)
        return _named(value) if _ADDRESS.search(text) else text


def _attributes(value: Any) -> dict[str, Any]:
    attributes = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            # Those that begin with two underscores have another name outside of their class.
            own = slot if not slot.startswith("__") else f"_{kind.__name__.lstrip('_')}{slot}"
            if slot not in ("__dict__", "__weakref__") and hasattr(value, own):
                attributes[slot] = getattr(value, own)
    return attributes


def _function_name(function: types.FunctionType) -> str:
    """Returns a function's name, that of its own code before the one that it was given."""
    code, name = function.__code__, _named(function)
    own = getattr(code, "co_qualname", code.co_name)
    if code.co_name == "<lambda>":
        # All lambdas of a scope have one name.
        own += " " + hashlib.sha256(repr(_content_of(code)).encode()).hexdigest()[:_DIGITS]
    # `functools.wraps` gives a function the name of the one that it wraps.
    return name if own == function.__qualname__ else f"{name} by {own}"


def _content_of(code: types.CodeType) -> tuple[Any, ...]:
    """Returns what code does, without the file and the lines where it stands."""
    constants = [
        _content_of(one) if isinstance(one, types.CodeType) else one for one in code.co_consts
    ]
    return code.co_code, constants, code.co_names


def _source_of(function: types.FunctionType) -> str:
    """Returns a function's code without comments, or its bytecode where its source is not there."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        # Such as a lambda in the middle of a line.
        return repr(_content_of(function.__code__))
    return ast.dump(tree)


def _names_in(code: types.CodeType) -> set[str]:
    """Returns the names of globals and attributes that code reads, also in functions inside it."""
    inside = [one for one in code.co_consts if isinstance(one, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inside))


def _named(value: Any) -> str:
    module = getattr(value, "__module__", None) or "?"
    if module == "__main__" and (file := getattr(sys.modules["__main__"], "__file__", None)):
        # Another program may import the same function from this file.
        module = Path(file).stem
    return f"{module}.{getattr(value, '__qualname__', type(value).__name__)}"


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
