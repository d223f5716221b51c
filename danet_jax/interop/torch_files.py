"""State dicts on disk: .safetensors, and what torch.save writes, without running any code in it."""

import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from danet_jax.errors import UserError

# Where training scripts keep the weights beside the rest of their state.
_INSIDE = ("state_dict", "model")


def read_state_dict(path: Path | str) -> dict[str, Any]:
    """Returns name → array (.safetensors) or tensor (.pth, .pth.tar, .pt) of a file.

    Nothing that a pickle asks for is run: objects other than tensors and plain containers are
    refused. Raises UserError where the file is missing, torn, unsafe, of another kind, or where
    PyTorch, which its own format needs, is not installed.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(
            f"checkpoint {path} is a folder; name a .pth, .pth.tar or .safetensors file."
        )
    if not path.is_file():
        raise UserError(f"checkpoint {path}: there is no such file.")
    if not path.stat().st_size:
        raise UserError(f"checkpoint {path} is empty.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _inner(_read_torch(path), path)


def checksum(path: Path | str) -> str:
    """Returns the SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_safetensors(path: Path) -> dict[str, Any]:
    import safetensors.numpy

    try:
        return safetensors.numpy.load_file(path)
    except Exception as error:  # its own type and several of Python's, by what is torn
        raise UserError(f"checkpoint {path} is torn, or no safetensors file: {error}") from error


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"checkpoint {path}: reading PyTorch's own format needs PyTorch: `pip install torch`; "
            ".safetensors files need nothing."
        ) from None
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if unsafe := _unsafe_names(path, error):
            raise UserError(
                f"checkpoint {path} asks for Python objects that could run code: "
                f"{', '.join(unsafe)}. It was not loaded. If you trust it, save its state_dict "
                "alone where it came from."
            ) from error
        raise _torn(path, error) from error
    except Exception as error:  # RuntimeError, EOFError, KeyError, … by where it is torn
        raise _torn(path, error) from error


def _torn(path: Path, error: Exception) -> UserError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(f"checkpoint {path} is torn, or not a PyTorch file: {reason[:200]}")


def _harmless() -> list[Any]:
    """What published checkpoints hold beside tensors: mmengine's log of scalars."""
    return [(_Inert, "mmengine.logging.history_buffer.HistoryBuffer")]


class _Inert:
    """Stands where a checkpoint holds an object of a package that need not be installed."""


def _unsafe_names(path: Path, error: Exception) -> list[str]:
    import torch

    if not zipfile.is_zipfile(path):
        # The format before PyTorch 1.6: the error names the first one.
        return re.findall(r"GLOBAL (\S+) was not an allowed global", str(error))[:1]
    return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))


def _inner(loaded: Any, path: Path) -> dict[str, Any]:
    for name in _INSIDE:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
            break
    if not isinstance(loaded, Mapping):
        raise UserError(
            f"checkpoint {path} holds a {type(loaded).__name__}, not a state_dict; save "
            "model.state_dict()."
        )
    if not any(hasattr(value, "shape") for value in loaded.values()):
        raise UserError(
            f"checkpoint {path} holds no arrays; its entries are "
            f"{', '.join(map(str, list(loaded)[:8])) or 'none'}."
        )
    return {str(name): value for name, value in loaded.items()}
