"""Whether a launcher started this process as one of several; no JAX is needed to know."""

import os
from collections.abc import Mapping

# They hold process 0's address (host:port), the number of processes, and this one's index.
PROCESS_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Each launcher's variables: all of the first are set in each process, and one of the second says
# how many processes there are: the number, or a list of names between commas. From the pages of
# Slurm (srun, "output environment variables"), Open MPI (mpirun, "exported environment variables"),
# and GKE (TPU workloads), read 2026-11.
_LAUNCHERS = {
    "Slurm": (("SLURM_JOB_ID", "SLURM_PROCID"), ("SLURM_STEP_NUM_TASKS",)),
    "Open MPI": (("OMPI_COMM_WORLD_RANK",), ("OMPI_COMM_WORLD_SIZE",)),
    "Cloud TPU": (("TPU_WORKER_ID",), ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")),
    "several Cloud TPU slices": (("MEGASCALE_SLICE_ID",), ("MEGASCALE_NUM_SLICES",)),
}


def launcher(environment: Mapping[str, str] = os.environ) -> str:
    """Returns what started this process as one of several, "" where it is alone.

    That are the variables of PROCESS_VARIABLES, which a person sets, or those of Slurm's `srun`,
    Open MPI and Cloud TPU. A shell of `salloc` is no process of a step, so is alone.
    """
    if any(environment.get(name) for name in PROCESS_VARIABLES):
        return PROCESS_VARIABLES[0]
    for name, (always, counts) in _LAUNCHERS.items():
        if not all(environment.get(variable) for variable in always):
            continue
        if max(_count(environment.get(variable, "")) for variable in counts) > 1:
            return name
    return ""


def is_one_of_several(
    distributed: bool | None, environment: Mapping[str, str] = os.environ
) -> bool:
    """Returns whether a process with this config.mesh.distributed joins others.

    Args:
      distributed: None asks `launcher`.
      environment: the process's variables.
    """
    return bool(launcher(environment)) if distributed is None else distributed


def _count(text: str) -> int:
    return int(text) if text.isdecimal() else len([name for name in text.split(",") if name])
