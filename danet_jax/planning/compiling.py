"""Has steps compiled by another process, and keeps what came out for the next time."""

import contextlib
import ctypes
import functools
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_collections

from danet_jax.base.files import replace_file
from danet_jax.planning import checks
from danet_jax.planning.chips import Topology
from danet_jax.runtime.cache import cache_folder
from danet_jax.runtime.private import private_folder

# JAX must not look for the chips, for their driver, or for a cloud's metadata server; and another
# process may use the compiler at the same time.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
_PACKAGE = Path(__file__).parents[1]
# Fields that change nothing of what is compiled.
_OUTSIDE = ("seed", "data", "eval", "train")
_POLL_SECONDS = 0.2
# The last field that the worker writes.
_LAST = "xla"
_OUT_OF_MEMORY = re.compile(
    r"Ran out of memory (?:in memory space hbm\. Used |on HBM, [^(]*\()([\d.]+)([KMGT])"
)
# These variables change what a compiler makes.
_VARIABLES = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
# prctl(2): the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def measured(
    config: ml_collections.ConfigDict,
    topology: Topology,
    *,
    on_wait: Callable[[float], None] = lambda seconds: None,
) -> dict[str, Any]:
    """Returns what `planning.worker.measure` says of a step, kept from an earlier time or anew.

    Args:
      config: the experiment.
      topology: the chips.
      on_wait: called a few times a second with the seconds since the compiler was started.

    Returns:
      The worker's numbers; or "failed", with the compiler's reason, and "memory_bytes" where it
      says that the chip has too little.
    """
    file = _file(config, topology)
    if file is not None and (kept := _read(file)) is not None:
        return kept | {"kept": True}
    result = _compile(config, topology, on_wait)
    # A compiler that failed for another reason than memory may succeed the next time.
    if file is not None and "memory_bytes" in result:
        # A full disk must not cost the result.
        with contextlib.suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            replace_file(file, data=json.dumps(result).encode())
    return result


def _read(file: Path) -> dict[str, Any] | None:
    """What was kept, None where there is nothing or a torn file."""
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    is_whole = isinstance(result, dict) and ("failed" in result or _LAST in result)
    return result if is_whole and "memory_bytes" in result else None


def _compile(
    config: ml_collections.ConfigDict, topology: Topology, on_wait: Callable[[float], None]
) -> dict[str, Any]:
    process = subprocess.Popen(
        # Without -P modules would come from the current folder, which holds a person's own.
        [sys.executable, "-P", "-m", "danet_jax.planning.worker"],
        env=os.environ | _ENVIRONMENT | _import_path(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_end_with_parent,
    )
    task = json.dumps({"config": config.to_dict(), "topology": topology.name})
    began = time.monotonic()
    try:
        given: str | None = task
        while True:
            try:
                output, errors = process.communicate(given, timeout=_POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                given = None
                on_wait(time.monotonic() - began)
    finally:
        # A signal to this process ends the compiler, too.
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode == 0:
        return json.loads(output.splitlines()[-1])
    return _failure(process.returncode, errors)


def _end_with_parent() -> None:
    """Lets a process end with the one that started it, however that ends; on Linux."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _import_path() -> dict[str, str]:
    """Lets the process find this package, also where it is a checkout and not installed."""
    paths = [str(_PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def _failure(status: int, errors: str) -> dict[str, Any]:
    if match := _OUT_OF_MEMORY.search(errors):
        return {
            "failed": "it takes more memory than the chip has",
            "memory_bytes": int(float(match[1]) * _UNITS[match[2]]),
        }
    # Signal handlers print frames, and addresses to look them up.
    lines = [
        line.strip()
        for line in errors.splitlines()
        if line.strip() and not re.match(r"\s*(https?://|@ |\*\*\* |PC: |#\d)", line)
    ]
    said = [line for line in lines if "Check failed" in line or "Error: " in line]
    reason = (said or lines or ["it said nothing"])[-1]
    if status < 0:
        return {"failed": f"the compiler ended by {signal.Signals(-status).name}: {reason}"}
    return {"failed": reason}


def _file(config: ml_collections.ConfigDict, topology: Topology) -> Path | None:
    """Where a result is kept; None where there is no folder that only this user may write to."""
    folder = cache_folder()
    if folder is None or private_folder(Path(folder)):
        return None
    parts = {name: value for name, value in config.to_dict().items() if name not in _OUTSIDE}
    parts |= {
        "crop_size": list(config.data.crop_size),
        "batch_size": config.train.batch_size,
        "accumulation_steps": config.train.accumulation_steps,
        "clip_norm": config.train.clip_norm,
        "ema_decay": config.train.ema_decay,
        "topology": topology.name,
        "versions": checks.versions(),
        "variables": {
            name: value
            for name, value in os.environ.items()
            if name in _VARIABLES or name.startswith("JAX_")
        },
        "code": _code(),
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Path(folder) / "plans" / f"{key}.json"


@functools.cache
def _code() -> str:
    """A digest of this package's source, which every program follows from."""
    digest = hashlib.sha256()
    for file in sorted([*_PACKAGE.rglob("*.py"), *_PACKAGE.rglob("*.txtpb")]):
        if "commands" not in file.parts and "visualization" not in file.parts:
            digest.update(file.read_bytes())
    return digest.hexdigest()
