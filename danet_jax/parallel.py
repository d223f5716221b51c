"""Devices and processes: the only place that knows how many there are."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, Int64

from danet_jax.errors import SharedError, UserError

AXES = ("data", "space")
_LONGEST_MESSAGE = 4096
# Seconds that the others wait at their end for the one that writes.
_LONGEST_REPORT = 24 * 60 * 60
# Where process 0 listens (host:port), how many processes there are, and which one this is.
PROCESS_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def initialize(*, distributed: bool, stop_together: bool = False) -> None:
    """Joins the other processes of a multi-host job; to be called before any computation.

    With `stop_together` a SIGTERM is no process's own any more: it makes `reached_preemption` of
    checkpoints true, at the same step in all.

    Cloud TPU, Slurm, MPI and Kubernetes tell JAX themselves where the others are; elsewhere the
    environment has to, by the variables of PROCESS_VARIABLES.
    """
    if not distributed:
        return
    jax.config.update("jax_enable_preemption_service", stop_together)
    try:
        jax.distributed.initialize(
            **_processes_of_environment(), shutdown_timeout_seconds=_LONGEST_REPORT
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            "config.mesh.distributed is set, but this process found no others "
            f"({str(error).rstrip('.')}). Where no Cloud TPU, Slurm, MPI or Kubernetes says where "
            f"they are, set {', '.join(PROCESS_VARIABLES)} in the environment of each process; for "
            "one machine alone give --config.mesh.distributed=False."
        ) from error


def _processes_of_environment() -> dict[str, Any]:
    """Arguments of `jax.distributed.initialize`; none where no variable is set."""
    given = {name: value for name in PROCESS_VARIABLES if (value := os.environ.get(name))}
    if not given:
        return {}
    if missing := [name for name in PROCESS_VARIABLES if name not in given]:
        raise UserError(f"{', '.join(given)} set, but not {', '.join(missing)}: set all three.")
    address, count, index = given.values()
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise UserError(
            f"{PROCESS_VARIABLES[1]} is {count!r} and {PROCESS_VARIABLES[2]} {index!r}: give how "
            "many processes there are, and the number of this one from 0."
        )
    return {
        "coordinator_address": address,
        "num_processes": int(count),
        "process_id": int(index),
    }


def create_mesh(*, space: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
    """Returns devices as ("data", "space"): examples over the one, image rows over the other.

    Args:
      space: how many devices share the rows of an image.
      devices: of all processes; None for those that are here.

    Raises:
      UserError: space does not divide the number of devices of a process.
    """
    if devices is None:
        devices = jax.devices()
    # An image's rows stay on one process, which loads them.
    local = sum(device.process_index == devices[0].process_index for device in devices)
    if space < 1 or local % space:
        raise UserError(
            f"config.mesh.space is {space}, which does not divide the {local} devices of a process."
        )
    return _mesh((len(devices) // space, space), devices)


def check_divisible(mesh: Mesh, *, batch_size: int, height: int) -> None:
    """Raises a UserError where examples or their rows do not divide over the mesh."""
    data, space = mesh.shape["data"], mesh.shape["space"]
    if batch_size % data:
        raise UserError(
            f"A batch of {batch_size} (config.train.batch_size over accumulation_steps) does not "
            f"divide over {data} devices: choose a multiple of {data}."
        )
    if height % space:
        raise UserError(
            f"The height {height} of config.data.crop_size does not divide over config.mesh.space "
            f"{space}."
        )


def local_mesh() -> Mesh:
    """Returns this process's devices, all along "data"."""
    return _mesh((jax.local_device_count(), 1), jax.local_devices())


def _mesh(shape: tuple[int, int], devices: list) -> Mesh:
    # Auto: Linen's dropout and attention's reshapes fail on Explicit axes, make_mesh's default.
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on each device: parameters, statistics, optimiser state."""
    return NamedSharding(mesh, PartitionSpec())


def shares() -> tuple[int, int]:
    """Among how many devices the mesh of this program divides a batch, and an image's rows."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return 1, 1
    return mesh.shape.get(AXES[0], 1), mesh.shape.get(AXES[1], 1)


def platform() -> str:
    """Returns for whose devices this program is made: "cpu", "gpu" or "tpu".

    They are those of the mesh, which may be absent from this machine, and without a mesh JAX's
    default ones.
    """
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def over_examples_and_rows(mesh: Mesh) -> NamedSharding:
    """Examples over "data" and rows over "space": batches of images and labels."""
    return NamedSharding(mesh, PartitionSpec(*AXES))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Puts this process's rows of a global batch [b, h, …] on its devices."""
    sharding = over_examples_and_rows(mesh)
    # On several processes JAX calls this transfer an implicit one, which training's guard refuses.
    with jax.transfer_guard_host_to_device("allow"):
        return {
            name: jax.make_array_from_process_local_data(sharding, array)
            for name, array in batch.items()
        }


def put_rows(tree: Any, mesh: Mesh) -> Any:
    """Puts arrays [b, …] on this process's devices, rows over "data"."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec("data")))


def to_local(tree: Any, mesh: Mesh) -> Any:
    """Copies arrays that every process holds whole onto the devices of a local mesh."""

    def copy(array):
        if isinstance(array, jax.Array) and not array.is_fully_addressable:
            array = array.addressable_data(0)
        return jax.device_put(array, replicated(mesh))

    return jax.tree.map(copy, tree)


def sum_over_processes(counts: Int64[np.ndarray, "..."]) -> Int64[np.ndarray, "..."]:
    """Adds the processes' counts, exactly."""
    if jax.process_count() == 1:
        return counts
    # As pairs of 32-bit words, because JAX narrows 64-bit integers.
    words = np.ascontiguousarray(counts).view(np.uint32)
    gathered = np.asarray(multihost_utils.process_allgather(words))
    return np.ascontiguousarray(gathered).view(np.int64).sum(axis=0)


def merge_over_processes(values: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Returns at each place the value of the process that has one, nan where none has."""
    if jax.process_count() == 1:
        return values
    return np.fmax.reduce(np.asarray(multihost_utils.process_allgather(values)), axis=0)


def wait_for_all(name: str) -> None:
    """Returns when all processes have come to the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Ends in all processes at once; what a person can mend in one of them, all raise.

    The others would wait for a process that is gone, and then say so in pages of traceback.
    """
    if jax.process_count() == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except (OSError, ValueError) as raised:
        error = raised
    text = np.zeros(_LONGEST_MESSAGE, np.uint8)
    if error is not None:
        message = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.filename is not None:
            message = f"{error.filename}: {error.strerror}"
        encoded = message.encode()[:_LONGEST_MESSAGE]
        text[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    for found in np.asarray(multihost_utils.process_allgather(text)):
        if found.any():
            if type(error) is ValueError:
                # Nobody's mistake but ours: its traceback tells where.
                raise error
            message = bytes(found).rstrip(b"\0").decode(errors="ignore")
            raise SharedError(message) from error


def is_main_process() -> bool:
    """True on the one process that writes what is written once."""
    return jax.process_index() == 0


def process() -> dict[str, int]:
    """Which of how many processes this is, as the input pipeline's arguments."""
    return {"process_index": jax.process_index(), "process_count": jax.process_count()}
