"""How XLA compiles the tests' programs: tiny networks compile for far longer than they run."""

import os

import jaxlib.version

# Leaves out most optimisations, which compiles in a third of the time. "0" tests the programs that
# users run, in every process.
FAST = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# The older of XLA's two ways to write kernels takes less than half of the time again. Later
# versions have one way, and end a process that names this flag.
OLDER_KERNELS = "--xla_cpu_use_fusion_emitters=false"
HAS_OLDER_KERNELS = jaxlib.version.__version_info__ < (0, 11)


def xla_flags(devices: int = 1) -> str:
    """XLA_FLAGS of a process with so many devices."""
    flags = [f"--xla_force_host_platform_device_count={devices}"] if devices > 1 else []
    if FAST != "0" and HAS_OLDER_KERNELS:
        flags.append(OLDER_KERNELS)
    return " ".join(flags)
