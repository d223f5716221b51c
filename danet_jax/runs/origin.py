"""How a run began: by which version, from which data, with which loss of a program's own."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_collections

from danet_jax import __version__
from danet_jax.base.errors import NotPreparedError, UserError
from danet_jax.base.json_files import is_there
from danet_jax.runs.folder import ORIGIN_FILE, read_file, write_file


def write_origin(
    workdir: Path, config: ml_collections.ConfigDict, loss: Callable | None = None
) -> None:
    """Notes which version began a run, from which data, and with which loss of a program's own."""
    origin = {
        "danet_jax": __version__,
        "data_dir": os.path.abspath(config.data.data_dir),
        "loss": name_of(loss),
    }
    write_file(workdir / ORIGIN_FILE, origin)


def read_origin(workdir: Path) -> dict[str, Any] | None:
    """Returns what `write_origin` noted, None for runs of the first release."""
    return read_file(workdir, ORIGIN_FILE) if is_there(workdir / ORIGIN_FILE) else None


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
    """Returns the name of a program's own loss, None where there is none."""
    if function is None:
        return None
    module = getattr(function, "__module__", "?")
    return f"{module}.{getattr(function, '__qualname__', type(function).__name__)}"


@contextlib.contextmanager
def data_looked_for(workdir: Path) -> Iterator[None]:
    """Adds to an error on a data set that is not there where the run found it when it began."""
    try:
        yield
    except NotPreparedError as error:
        origin = None
        with contextlib.suppress(UserError):
            origin = read_origin(workdir)
        where = "" if origin is None else f" The run was trained on that in {origin['data_dir']}."
        raise UserError(
            f"{error}{where} Its folder can be given: --config.data.data_dir=FOLDER."
        ) from None
