"""How a step of training is compiled, and cached for the next start."""

import concurrent.futures
import contextlib
import ctypes
import functools
import gc
import hashlib
import importlib.metadata
import logging
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export

from danet_jax.base.files import replace_file
from danet_jax.platform import Target, compiler_options
from danet_jax.runtime import parallel
from danet_jax.runtime.private import private_folder

_PACKAGE = Path(__file__).parents[1]
_PACKAGES = ("jax", "jaxlib", "flax", "optax")
_PREFIX, _SUFFIX = "danet_jax-", ".stablehlo"
_OURS = re.compile(rf"{_PREFIX}[0-9a-f]{{64}}\{_SUFFIX}")
# Files of about a megabyte each.
_KEPT = 20


class Step:
    """A compiled function (state, batch) → (state, metrics), which takes the state's memory."""

    def __init__(self, program: jax.stages.Compiled):
        self.program = program

    def __call__(self, state: Any, batch: Any) -> tuple[Any, Any]:
        leaves, structure = jax.tree.flatten(state)
        leaves, metrics = self.program(leaves, batch)
        return jax.tree.unflatten(structure, leaves), metrics


class CachedStep:
    """A step, compiled; a later start takes over what this one traced and compiled.

    JAX's own cache of compiled programs saves the compilation, but not the tracing of a deep
    network, which takes as long as all else at a second start. So the traced function is kept
    beside that cache, as StableHLO and by `jax.export`; neither holds anything that Python runs.
    Reading begins at once, in the background, a first compilation when it is asked for.

    Args:
      function: (state, batch) → (state, metrics), to be traced.
      state: returns its first argument, or its shapes and places; called to trace.
      batch: its second argument, or its shapes and places.
      mesh: each of whose devices holds the state and all that comes out.
      settings: all that the program and the shapes of its state depend on, beside this package's
        code, the devices and the batch's shapes and places; None where that cannot be told, so that
        the step is not cached.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], tuple[Any, Any]],
        state: Callable[[], Any],
        batch: Any,
        *,
        mesh: jax.sharding.Mesh,
        settings: str | None,
    ):
        self._function, self._state, self._placement = function, state, parallel.replicated(mesh)
        self._batch = jax.tree.map(_shape, batch)
        self._target = Target.of_mesh(mesh)
        self._jit = functools.partial(
            jax.jit,
            donate_argnums=0,
            out_shardings=self._placement,
            compiler_options=compiler_options(self._target),
        )
        self._file, self._reading = None, None
        folder = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
        may_cache = settings is not None and jax.process_count() == 1
        if folder and may_cache and not private_folder(Path(folder)):
            self._file = Path(folder) / (_key(batch, str(settings), self._target) + _SUFFIX)
            if os.access(self._file, os.R_OK):
                executor = concurrent.futures.ThreadPoolExecutor(max_workers=1)
                self._reading = executor.submit(self._read, self._file)
                executor.shutdown(wait=False)

    @property
    def is_cached(self) -> bool:
        """Whether it was traced before, so that most likely it need not be compiled."""
        return self._reading is not None

    def is_ready(self, *, timeout: float) -> bool:
        """Whether the step is compiled, or read within so many seconds.

        Where JAX's own entry is gone from the cache, what was traced is compiled once more.
        """
        if "compiled" in self.__dict__ or self._reading is None:
            return "compiled" in self.__dict__
        return bool(concurrent.futures.wait([self._reading], timeout).done)

    @functools.cached_property
    def compiled(self) -> Callable[[Any, Any], tuple[Any, Any]]:
        """The step, once it is read or compiled."""
        if jax.process_count() > 1:
            return self._jit(self._function)
        if self._reading is not None and (read := self._reading.result()) is not None:
            trim_heap()
            return read
        leaves, structure = jax.tree.flatten(self._state())

        def flat(leaves: list[Any], batch: Any) -> tuple[list[Any], Any]:
            state, metrics = self._function(jax.tree.unflatten(structure, leaves), batch)
            return jax.tree.leaves(state), metrics

        export = jax_export.export(self._jit(flat), platforms=[self._target.lowering_platform])
        exported = export(list(map(_shape, leaves)), self._batch)
        if self._file is not None:
            _write(exported, self._file)
        step = self._compile(exported)
        # Nothing will be asked of what was traced on the way.
        jax.clear_caches()
        trim_heap()
        return step

    def _read(self, file: Path) -> Step | None:
        try:
            return self._compile(jax_export.deserialize(bytearray(file.read_bytes())))
        except Exception as error:  # of a torn file, or one that this JAX does not read
            logging.getLogger(__name__).debug("%s is not usable: %s", file, error)
            # The next start is to compile before there is a state.
            with contextlib.suppress(OSError):
                file.unlink()
            return None

    def _compile(self, exported: jax_export.Exported) -> Step:
        (leaves, _), _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        placed = [
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._placement)
            for leaf in leaves
        ]
        return Step(self._jit(exported.call).lower(placed, self._batch).compile())


def _shape(array: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(array, "sharding", None)
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)


def _write(exported: jax_export.Exported, file: Path) -> None:
    try:
        replace_file(file, data=bytes(exported.serialize()))
        _remove_old(file.parent)
    except Exception as error:  # of a full disk
        logging.getLogger(__name__).debug("%s is not kept: %s", file, error)


def trim_heap() -> None:
    """Gives free memory back to the system: the C library would keep it for its next use.

    That is half a gigabyte after the compilation of a deep network.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _remove_old(folder: Path) -> None:
    # JAX's cache may be any folder, and people and other programs may call their files alike.
    kept = sorted(
        (file for file in folder.glob(f"{_PREFIX}*{_SUFFIX}") if _OURS.fullmatch(file.name)),
        key=lambda file: file.stat().st_mtime,
    )
    for file in kept[:-_KEPT]:
        file.unlink(missing_ok=True)


def _key(batch: Any, settings: str, target: Target) -> str:
    described = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), batch)
    parts = (
        _code(),
        [importlib.metadata.version(name) for name in _PACKAGES],
        target,
        jax.devices()[0].client.platform_version,
        [device.device_kind for device in jax.devices()],
        _processor(),
        _settings(),
        compiler_options(target),
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
    """The sources that a program is made of: another version of them is another program."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
