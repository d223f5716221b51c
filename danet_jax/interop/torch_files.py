"""State dicts on disk: .safetensors, and what torch.save writes, without running any code in it."""

import contextlib
import hashlib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from danet_jax.errors import UserError

# Types of safetensors files.
_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
# What training scripts save beside the weights: scores that are numpy numbers, mmengine's log.
_HARMLESS = (
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.dtype",
    "numpy.ndarray",
    "mmengine.logging.history_buffer.HistoryBuffer",
)
_TORCH_SUFFIXES = (".pth", ".tar", ".pt", ".bin", ".ckpt")
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
    if path.suffix not in _TORCH_SUFFIXES:
        raise UserError(
            f"checkpoint {path} is none by its name; known are .safetensors and "
            f"{', '.join(_TORCH_SUFFIXES)}."
        )
    return _inner(_read_torch(path), path)


def checksum(path: Path | str) -> str:
    """Returns the SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except Exception as error:  # its own type and several of Python's, by what is torn
        raise UserError(f"checkpoint {path} is torn, or no safetensors file: {error}") from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in _TYPES:
            raise UserError(
                f"checkpoint {path}: {name} is of type {entry['dtype']}; save it as F32."
            )
        array = np.frombuffer(entry["data"], _TYPES[entry["dtype"]])
        arrays[name] = array.reshape(entry["shape"])
    return arrays


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"checkpoint {path}: reading PyTorch's own format needs PyTorch: `pip install torch`; "
            ".safetensors files need nothing."
        ) from None
    with torch.serialization.safe_globals([(_Inert, name) for name in _HARMLESS]):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # UnpicklingError, RuntimeError, EOFError, … by what is wrong
            raise _explained(path, error) from error


def _explained(path: Path, error: Exception) -> UserError:
    if isinstance(error, pickle.UnpicklingError) and (names := _unsafe_names(path, error)):
        return UserError(
            f"checkpoint {path} asks for Python objects that could run code: {', '.join(names)}. "
            "It was not loaded. If you trust it, save its state_dict alone where it came from."
        )
    if "TorchScript" in str(error):
        return UserError(f"checkpoint {path} is a TorchScript archive; save model.state_dict().")
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(f"checkpoint {path} is torn, or not a PyTorch file: {reason[:200]}")


def _unsafe_names(path: Path, error: Exception) -> list[str]:
    """What a pickle asks for; in formats whose list cannot be had, the first that was refused."""
    import torch

    if zipfile.is_zipfile(path):
        with contextlib.suppress(Exception):  # another pickle protocol
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return re.findall(r"GLOBAL (\S+) was not an allowed global", str(error))[:1]


class _Inert:
    """Stands where a checkpoint holds a score or a log beside its tensors; it keeps nothing."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


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
