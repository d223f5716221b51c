"""How programs are compiled, and kept for the next start."""

import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import hashlib
import importlib.metadata
import logging
import os
import pickle
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.experimental import serialize_executable

from danet_base.files import replace_file
from danet_jax.platform import Target, compiler_options
from danet_jax.runtime.private import private_folder

_PACKAGES = ("jax", "jaxlib", "flax", "optax")
_PREFIX, _SUFFIX = "danet_jax-", ".step"
# Each may take as many megabytes as a network has layers.
_KEPT = 20


class Program:
    """A jitted function (state, batch) → (state, metrics), compiled, or as it was kept.

    JAX's own cache of compiled programs saves their compilation, this one also the minute or less
    that tracing a deep network and bringing it into the compiler's form takes. Reading begins at
    once, in the background, compilation when it is asked for.

    Args:
      function: of `jax.jit`; its outputs lie where its inputs do.
      state: returns its first argument, or its shapes and places; called to compile.
      batch: its second argument, or its shapes and places.
      settings: all that the program and the shapes of its state depend on, beside this package's
        code, the devices and the batch's shapes and places.
    """

    def __init__(self, function: Any, state: Callable[[], Any], batch: Any, *, settings: str):
        self._function, self._state, self._batch = function, state, batch
        self._file, self._reading = None, None
        folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        if folder and jax.process_count() == 1 and not private_folder(Path(folder)):
            self._file = Path(folder) / (_key(batch, settings) + _SUFFIX)
            if os.access(self._file, os.R_OK):
                executor = concurrent.futures.ThreadPoolExecutor(max_workers=1)
                self._reading = executor.submit(self._read, self._file)
                executor.shutdown(wait=False)

    @property
    def kept(self) -> bool:
        """Whether there is a file of it, so that most likely nothing will be compiled."""
        return self._reading is not None

    @functools.cached_property
    def compiled(self) -> Callable:
        """The function, once it is read or compiled."""
        if jax.process_count() > 1:
            return self._function
        if self._reading is not None and (read := self._reading.result()) is not None:
            give_back_memory()
            return read
        compiled, whole = _compiled(self._function, self._state(), self._batch)
        if whole and self._file is not None:
            self._keep(compiled, self._file)
        return compiled

    def _read(self, file: Path) -> Callable | None:
        try:
            content, size, names = pickle.loads(file.read_bytes())
            # Of the state's leaves: its structure is not known before the network is traced.
            leaves = [0] * size
            arguments = jax.tree.structure(((leaves, self._batch), {}))
            results = jax.tree.structure((leaves, dict.fromkeys(names, 0)))
            loaded = serialize_executable.deserialize_and_load(content, arguments, results)
        except Exception as error:  # of a torn file, or one that this jaxlib does not read
            logging.getLogger(__name__).debug("%s is not usable: %s", file, error)
            # The next start is to compile before there is a state.
            with contextlib.suppress(OSError):
                file.unlink()
            return None

        def step(state: Any, batch: Any) -> tuple[Any, Any]:
            leaves, structure = jax.tree.flatten(state)
            leaves, metrics = loaded(leaves, batch)
            return jax.tree.unflatten(structure, leaves), metrics

        return step

    def _keep(self, compiled: Any, file: Path) -> None:
        try:
            content, _, results = serialize_executable.serialize(compiled)
            state, metrics = jax.tree.unflatten(results, range(results.num_leaves))
            size = len(jax.tree.leaves(state))
            replace_file(file, data=pickle.dumps((content, size, sorted(metrics))))
            _remove_old(file.parent)
        except Exception as error:  # a full disk, or a backend that cannot
            logging.getLogger(__name__).debug("%s is not kept: %s", file, error)


def _compiled(function: Any, state: Any, batch: Any) -> tuple[Any, bool]:
    """The compiled function, and whether it can be kept.

    What comes out of JAX's own cache lacks, on CPU, the code of its kernels when it is written
    again. So this does not go into that cache, and what was found there is not kept.
    """
    hits = []

    def note(event: str, **_: Any) -> None:
        if event.endswith("/cache_hits"):
            hits.append(event)

    field = "jax_persistent_cache_min_compile_time_secs"
    former = jax.config.values[field]
    jax.monitoring.register_event_listener(note)
    jax.config.update(field, float("inf"))
    try:
        compiled = function.lower(state, batch).compile()
    finally:
        jax.config.update(field, former)
        jax.monitoring.unregister_event_listener(note)
    # What was traced on the way, of which nothing will be asked again.
    jax.clear_caches()
    give_back_memory()
    return compiled, not hits


def give_back_memory() -> None:
    """Gives free memory back to the system: the C library would keep it for its next use.

    That is half a gigabyte after the compilation of a deep network.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _remove_old(folder: Path) -> None:
    # JAX's cache may be any folder, and other programs end their files alike.
    kept = sorted(folder.glob(f"{_PREFIX}*{_SUFFIX}"), key=lambda file: file.stat().st_mtime)
    for file in kept[:-_KEPT]:
        file.unlink(missing_ok=True)


def _key(batch: Any, settings: str) -> str:
    described = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), batch)
    parts = (
        _code(),
        [importlib.metadata.version(name) for name in _PACKAGES],
        Target.here(),
        jax.devices()[0].client.platform_version,
        [device.device_kind for device in jax.devices()],
        _processor(),
        _settings(),
        compiler_options(Target.here()),
        settings,
        described,
    )
    return _PREFIX + hashlib.sha256(repr(parts).encode()).hexdigest()


def _processor() -> tuple[int | None, str]:
    """How many cores there are, and what they can do: homes are shared between machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [f"flags {platform.processor()}"]
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return os.cpu_count(), flags


def _settings() -> tuple:
    """All of JAX's and the compilers' that a program may depend on."""
    prefixes, others = ("JAX_", "XLA_", "LIBTPU_", "NVIDIA_"), ("CACHE", "LOG", "COORDINATOR")
    unrelated = ("cache", "transfer_guard")
    return (
        sorted(
            (name, value)
            for name, value in jax.config.values.items()
            if not any(word in name for word in unrelated)
        ),
        sorted(
            (name, value)
            for name, value in os.environ.items()
            if name.startswith(prefixes) and not any(other in name for other in others)
        ),
    )


@functools.cache
def _code() -> str:
    """The package's sources: another version of them is another program."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
