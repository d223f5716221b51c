"""Reads state dicts, from .safetensors or torch.save, without running any code in the file."""

import contextlib
import hashlib
import pickle
import re
import tarfile
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from danet_jax.base.errors import UserError
from danet_jax.base.files import check_local
from danet_jax.base.texts import one_line
from danet_jax.base.wording import listed
from danet_jax.interop import pickles

# The types in safetensors files.
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
# Objects that training scripts save with the weights: scores as NumPy numbers, mmengine's log.
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
# The keys under which training scripts save the weights.
_INSIDE = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema", "ema")
# Bytes of the largest file that is read where the network is not known: 4 times ResNet-152's.
_LARGEST = 4 << 30
# The most that a NumPy array can have.
_MOST_DIMENSIONS = 64


def read_state_dict(path: Path | str, *, largest: int = _LARGEST) -> dict[str, Any]:
    """Returns name → array (.safetensors) or tensor (.pth, .pth.tar, .pt) of a file.

    Nothing that a pickle asks for is run: objects other than tensors and plain containers are
    refused, and so is a file that would take more than `largest` bytes, before it is unpacked.
    Raises UserError where the file is missing, torn, unsafe, too large, of another kind, or where
    PyTorch, which its own format needs, is not installed.
    """
    path = Path(path)
    check_local(path, name="checkpoint")
    if path.is_dir():
        raise UserError(
            f"checkpoint {path} is a folder; name a .pth, .pth.tar or .safetensors file."
        )
    if path.exists() and not path.is_file():
        raise UserError(f"checkpoint {path} is a pipe or a device; name a file.")
    if not path.is_file():
        raise UserError(f"checkpoint {path}: there is no such file.")
    if not path.stat().st_size:
        raise UserError(f"checkpoint {path} is empty.")
    if path.suffix != ".safetensors" and path.suffix not in _TORCH_SUFFIXES:
        raise UserError(
            f"checkpoint {path} is none by its name; known are .safetensors and "
            f"{', '.join(_TORCH_SUFFIXES)}."
        )
    pickles.check_size(path, largest)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _inner(_read_torch(path), path)


def checksum(path: Path | str) -> str:
    """Returns the SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except Exception as error:  # its own type and several of Python's, by what is torn
        raise UserError(
            f"checkpoint {path} is torn, or no safetensors file: {one_line(error)}"
        ) from error
    arrays = {}
    for name, entry in entries:
        name, shape = one_line(name), entry["shape"]
        if entry["dtype"] not in _TYPES:
            raise UserError(
                f"checkpoint {path}: {name} is of type {entry['dtype']}; save it as F32."
            )
        array = np.frombuffer(entry["data"], _TYPES[entry["dtype"]])
        if len(shape) > _MOST_DIMENSIONS:
            raise UserError(
                f"checkpoint {path}: {name} has {len(shape)} dimensions; a network's arrays have "
                "at most 4. Save the state_dict alone where it came from."
            )
        arrays[name] = array.reshape(shape)
    return arrays


def _read_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"checkpoint {path}: reading PyTorch's own format needs PyTorch: `pip install torch`; "
            ".safetensors files need nothing."
        ) from None
    contents = pickles.read_contents(path)
    if contents.dangerous:
        raise _unsafe(path, contents.dangerous)
    if contents.inflating:
        raise UserError(
            f"checkpoint {path} asks for {', '.join(contents.inflating)}, which makes much memory "
            "of few bytes. It was not loaded. Save the state_dict alone where it came from."
        )
    if tarfile.is_tarfile(path):
        raise UserError(
            f"checkpoint {path} is an archive of PyTorch before 0.1.10, which no reader without "
            "code knows: load it with a PyTorch that you trust it to, and save its state_dict."
        )
    allowed = [(_Inert, name) for name in _HARMLESS]
    with warnings.catch_warnings(), torch.serialization.safe_globals(allowed):
        # It warns of pickle protocols that it does not know, and fails on them afterwards.
        warnings.simplefilter("ignore")
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # UnpicklingError, RuntimeError, EOFError, … by what is wrong
            raise _explained(path, error, contents) from error


def _explained(path: Path, error: Exception, contents: pickles.Contents) -> UserError:
    if isinstance(error, pickle.UnpicklingError) and (names := _unsafe_names(path, error)):
        return _unsafe(path, names)
    if "TorchScript" in str(error):
        return UserError(f"checkpoint {path} is a TorchScript archive; save model.state_dict().")
    if contents.protocol not in (None, 2):
        return UserError(
            f"checkpoint {path} is pickled by protocol {contents.protocol}, and PyTorch's reader "
            "without code knows protocol 2 alone: save the state_dict by torch.save without "
            "pickle_protocol."
        )
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return UserError(f"checkpoint {path} is torn, or not a PyTorch file: {one_line(reason)}")


def _unsafe(path: Path, names: Sequence[str]) -> UserError:
    harmful = list(filter(pickles.is_dangerous, names))
    advice = (
        f"No weights need {listed(map(one_line, harmful))}: treat it as malware, load it nowhere "
        "else, and take the weights from somewhere that you trust."
        if harmful
        else "If you trust it, save its state_dict alone where it came from."
    )
    return UserError(
        f"checkpoint {path} asks for Python objects that could run code: "
        f"{listed(map(one_line, names))}. It was not loaded. {advice}"
    )


def _unsafe_names(path: Path, error: Exception) -> list[str]:
    """The objects that a pickle asks for; in older formats, the first that was refused."""
    import torch

    if zipfile.is_zipfile(path):
        with contextlib.suppress(Exception):  # another pickle protocol
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    return re.findall(r"GLOBAL (\S+) was not an allowed global", str(error))[:1]


class _Inert:
    """Takes the place of a score or a log in a checkpoint, and holds nothing."""

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
    # The type is asked, since the shape of some tensors cannot be read.
    if not any(hasattr(type(value), "shape") for value in loaded.values()):
        names = [one_line(name, longest=40) for name in list(loaded)[:8]]
        raise UserError(
            f"checkpoint {path} holds no arrays; its entries are {', '.join(names) or 'none'}."
        )
    return {one_line(name): value for name, value in loaded.items()}
