"""What a plan needs before anything is compiled, which takes no JAX to find out."""

import importlib.metadata
import importlib.util

import ml_collections

from danet_jax.base.errors import UserError
from danet_jax.base.sharing import check_shares
from danet_jax.planning.chips import Topology

_COMPILERS = {"tpu": ("libtpu",), "gpu": ("jax_cuda13_plugin", "jax_cuda12_plugin")}
_EXTRAS = {"tpu": "tpu", "gpu": "cuda12"}
_VERSIONS = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "libtpu",
    "jax-cuda12-plugin",
    "jax-cuda13-plugin",
)


def check_compiler(topology: Topology) -> None:
    """Raises a UserError that says what to install where a chip's compiler is absent."""
    platform = topology.chip.platform
    if any(importlib.util.find_spec(name) for name in _COMPILERS[platform]):
        return
    what = "libtpu" if platform == "tpu" else "JAX's plugin for CUDA"
    extra = _EXTRAS[platform]
    raise UserError(
        f"Compiling for {topology.name} needs {what}, which is not installed; the chip itself is "
        f"not needed. Into an environment of its own: pip install 'danet-jax[{extra}]', or in a "
        f"copy of the repository: pip install -r requirements.txt -r requirements-{extra}.txt "
        "-c constraints.txt"
    )


def versions() -> dict[str, str]:
    """Returns the versions of what compiles."""
    installed = {
        distribution.name.lower(): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name
    }
    return {
        name: installed[name]
        for name in sorted(installed)
        if name in _VERSIONS or name.startswith(("nvidia-cudnn", "nvidia-cuda-nvcc"))
    }


def check_divisible(config: ml_collections.ConfigDict, topology: Topology) -> None:
    """Raises a UserError where a batch or its rows do not divide over the chips."""
    check_shares(
        batch_size=config.train.batch_size // config.train.accumulation_steps,
        height=config.data.crop_size[0],
        devices=topology.chips,
        space=config.mesh.space,
        of_process=min(topology.chips, topology.chip.per_host),
        where=f" of {topology.name}",
    )
