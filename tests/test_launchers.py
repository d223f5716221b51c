"""Whether a process is one of several, by what launchers set in its environment."""

import pytest

from danet_jax.runtime.launchers import is_one_of_several, launcher

SLURM = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}
SEVERAL = {
    "JAX_COORDINATOR_ADDRESS": {"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234"},
    "Slurm": SLURM | {"SLURM_STEP_NUM_TASKS": "4"},
    "Open MPI": {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"},
    "Cloud TPU": {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "t1v-0,t1v-1"},
    "several Cloud TPU slices": {"MEGASCALE_SLICE_ID": "1", "MEGASCALE_NUM_SLICES": "2"},
}
ALONE = {
    "a laptop": {},
    "a shell of salloc": SLURM,
    "one task of Slurm": SLURM | {"SLURM_STEP_NUM_TASKS": "1"},
    "mpirun -n 1": {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
    "one host of TPUs": {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": "localhost"},
    "a notebook with a TPU": {"TPU_WORKER_ID": "0", "TPU_WORKER_HOSTNAMES": ""},
    "empty variables": dict.fromkeys(SEVERAL["JAX_COORDINATOR_ADDRESS"], ""),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_processes_of_a_launcher_join(name):
    assert launcher(SEVERAL[name]) == name
    assert is_one_of_several(None, SEVERAL[name])
    assert not is_one_of_several(False, SEVERAL[name])


@pytest.mark.parametrize("name", ALONE)
def test_one_alone_joins_only_where_it_is_told_to(name):
    assert launcher(ALONE[name]) == ""
    assert not is_one_of_several(None, ALONE[name])
    assert is_one_of_several(True, ALONE[name])
