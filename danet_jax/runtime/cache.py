"""Where compiled programs are cached for the next start."""

import functools
import os
import sys
from pathlib import Path

import jax

from danet_jax.base.texts import show
from danet_jax.runtime.private import private_folder


def cache_folder() -> str | None:
    """Returns the user's folder for them; None for an account without a home."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    # An empty or relative one counts as none (XDG Base Directory Specification).
    if not os.path.isabs(folder):
        folder = os.path.expanduser("~/.cache")
    return os.path.join(folder, "danet_jax") if os.path.isabs(folder) else None


@functools.cache  # so that a program that trains and predicts is told once
def set_up_cache() -> None:
    """Lets JAX cache compiled programs, unless others may write to the folder; then it is said."""
    folder = cache_folder()
    if folder and (problem := private_folder(Path(folder))):
        show(
            f"compiled programs are neither read from {folder} nor kept there, so each start "
            f"compiles anew: {problem}",
            file=sys.stderr,
        )
        folder = None
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
