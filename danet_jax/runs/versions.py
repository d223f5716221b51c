"""What a run's numbers, and a report of a fault, depend on besides the code."""

import contextlib
import importlib.metadata
import platform

# Needed by every command; what has no such package installed cannot train.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# These decide which devices JAX finds, and which weights can be read.
OPTIONAL = ("jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "torch", "huggingface_hub")


def package_versions(names: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Returns the versions of Python and of the installed ones among these packages, by name."""
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def run_versions() -> dict[str, str]:
    """Returns what a run's numbers depend on: Python, packages, devices."""
    # `--version` answers without JAX.
    import jax

    found = package_versions()
    found["devices"] = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    return found
