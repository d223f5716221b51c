"""Devices and processes: the only place that knows how many there are."""

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float32, Int64

from danet_jax.base.errors import SharedError, UserError
from danet_jax.base.sharing import AXES, check_shares, check_space
from danet_jax.runtime.launchers import PROCESS_VARIABLES, is_one_of_several, launcher
from danet_jax.runtime.supervision import LONGEST_SILENCE

_LONGEST_MESSAGE = 4096
# Seconds that the others wait at their end for the one that writes.
_LONGEST_REPORT = 24 * 60 * 60


def initialize(*, distributed: bool | None, stop_together: bool = False) -> None:
    """Joins the other processes of a multi-host job; to be called before any computation.

    With `distributed` None it does so where `launchers.launcher` finds that there are any.

    With `stop_together` a SIGTERM is no process's own any more: it makes `reached_preemption` of
    checkpoints true, at the same step in all.

    Cloud TPU, Slurm, MPI and Kubernetes tell JAX themselves where the others are; elsewhere the
    environment has to, by the variables of PROCESS_VARIABLES.
    """
    if not is_one_of_several(distributed):
        return
    jax.config.update("jax_enable_preemption_service", stop_together)
    try:
        jax.distributed.initialize(
            **_processes_of_environment(),
            heartbeat_timeout_seconds=LONGEST_SILENCE,
            shutdown_timeout_seconds=_LONGEST_REPORT,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{_why_joining(distributed)}, but this process found no others "
            f"({str(error).rstrip('.')}). Where no Cloud TPU, Slurm, MPI or Kubernetes says where "
            f"they are, set {', '.join(PROCESS_VARIABLES)} in the environment of each process; for "
            "one machine alone give --config.mesh.distributed=False."
        ) from error


def _why_joining(distributed: bool | None) -> str:
    if distributed:
        return "config.mesh.distributed is set"
    return f"this process was started as one of several ({launcher()})"


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

    The devices are in process order, so that an image's rows stay on the process that loads them,
    or lie on neighbouring ones where one process has too few devices.

    Args:
      space: how many devices share the rows of an image.
      devices: of all processes; None for those that are here.

    Raises:
      UserError: space neither divides the number of a process's devices, nor is it the number of
        some processes' devices together that divides that of all.
    """
    return _mesh(device_grid(jax.devices() if devices is None else devices, space=space))


def device_grid(devices: Sequence[Any], *, space: int) -> np.ndarray:
    """Returns devices as an array [data, space] in the order of their processes.

    `jax.make_mesh` follows the torus of a TPU instead, where one row may lie on several processes.
    Neighbours in a row are also neighbours on the torus, since they exchange the edges of their
    image rows.

    Args:
      devices: what JAX calls devices; read are `process_index` and `id`, and where there are any
        `coords` and `core_on_chip`.
      space: how many devices share an image's rows.
    """
    processes: dict[int, list] = {}
    for device in sorted(devices, key=lambda device: (device.process_index, device.id)):
        processes.setdefault(device.process_index, []).append(device)
    counts = {len(local) for local in processes.values()}
    if len(counts) > 1:
        raise UserError(
            f"The processes have {' or '.join(map(str, sorted(counts)))} devices: start all of "
            "them with equally many."
        )
    (count,) = counts
    check_space(space, devices=len(devices), of_process=count)
    ordered = [device for local in processes.values() for device in _along_a_path(local)]
    grid = np.empty(len(ordered), object)
    grid[:] = ordered
    return grid.reshape(-1, space)


def _along_a_path(devices: Sequence[Any]) -> list:
    """Orders one process's devices so that each one is next to the one before it.

    The path goes to and fro through the box of their coordinates: a coordinate runs backwards
    where the sum of those before it is odd.
    """
    if not all(hasattr(device, "coords") for device in devices):
        return list(devices)
    places = [(*device.coords, getattr(device, "core_on_chip", 0)) for device in devices]
    least = np.min(places, axis=0)

    def step(index: int) -> list[int]:
        place = (places[index] - least).tolist()
        return [-x if sum(place[:axis]) % 2 else x for axis, x in enumerate(place)]

    return [devices[index] for index in sorted(range(len(devices)), key=step)]


def check_divisible(mesh: Mesh, *, batch_size: int, height: int) -> None:
    """Raises a UserError where examples or their rows do not divide over the mesh."""
    first = mesh.devices.flat[0].process_index
    check_shares(
        batch_size=batch_size,
        height=height,
        devices=mesh.size,
        space=mesh.shape["space"],
        of_process=sum(device.process_index == first for device in mesh.devices.flat),
    )


def local_mesh() -> Mesh:
    """Returns this process's devices, all along "data"."""
    return _mesh(device_grid(jax.local_devices(), space=1))


def _mesh(grid: np.ndarray) -> Mesh:
    # Auto: Linen's dropout and attention's reshapes fail on Explicit axes.
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """A full copy on each device: parameters, statistics, optimiser state."""
    return NamedSharding(mesh, PartitionSpec())


def over_examples_and_rows(mesh: Mesh) -> NamedSharding:
    """Examples over "data" and rows over "space": batches of images and labels."""
    return NamedSharding(mesh, PartitionSpec(*AXES))


def put_batch(
    batch: dict[str, np.ndarray], mesh: Mesh, *, examples: int | None = None
) -> dict[str, jax.Array]:
    """Puts this process's part of a global batch [b, h, …] on its devices.

    Args:
      batch: equally many examples from each process of the mesh, whole images in height; the same
        ones from those that share images, as `loading` says.
      mesh: of `create_mesh` or `local_mesh`.
      examples: how many the global batch is to have; None for as many as the processes give.

    Raises:
      ValueError: this process has another number of examples than its share, or the mesh does not
        have the processes in their order. JAX would put such a batch together from parts that do
        not belong together, without an error.
    """
    groups, sharing = _process_groups(mesh)
    sharding = over_examples_and_rows(mesh)

    def put(name: str, array: np.ndarray) -> jax.Array:
        total, height = groups * array.shape[0], array.shape[1]
        if examples is not None and total != examples:
            raise ValueError(
                f"{name!r} has {array.shape[0]} examples on process {jax.process_index()} of "
                f"{groups * sharing}, which make no batch of {examples}"
            )
        # The others put the other rows.
        first = jax.process_index() % sharing * (height // sharing)
        rows = array[:, first : first + height // sharing]
        shape = (total, *array.shape[1:])
        return jax.make_array_from_process_local_data(sharding, rows, shape)

    # JAX calls this transfer implicit on several processes, and training's guard would refuse it.
    with jax.transfer_guard_host_to_device("allow"):
        return {name: put(name, array) for name, array in batch.items()}


def loading(mesh: Mesh) -> dict[str, int]:
    """Returns which part of a batch's examples this process loads, as the pipeline's arguments.

    Processes that share images load the same ones.
    """
    groups, sharing = _process_groups(mesh)
    return {"process_index": jax.process_index() // sharing, "process_count": groups}


@functools.lru_cache(maxsize=16)
def _process_groups(mesh: Mesh) -> tuple[int, int]:
    """Returns how many groups of processes a mesh has, and how many processes share an image.

    A ValueError is raised where they are mixed in it.
    """
    owners = np.array([device.process_index for device in mesh.devices.flat])
    names, counts = np.unique(owners, return_counts=True)
    of_process, space = counts[0], mesh.shape["space"]
    in_order = (np.diff(owners) >= 0).all() and (counts == of_process).all()
    if not in_order or (of_process % space and space % of_process):
        raise ValueError(
            f"the mesh has processes {owners.reshape(mesh.devices.shape).tolist()} over (data, "
            "space): they have to be in their order, and an image's rows on one process or on all "
            "devices of several"
        )
    sharing = max(1, space // int(of_process))
    return len(names) // sharing, sharing


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
    # JAX narrows 64-bit integers, so they travel as pairs of 32-bit words.
    words = np.ascontiguousarray(counts).view(np.uint32)
    gathered = np.asarray(multihost_utils.process_allgather(words))
    return np.ascontiguousarray(gathered).view(np.int64).sum(axis=0)


def merge_over_processes(values: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Returns at each place the value of the process that has one, nan where none has."""
    if jax.process_count() == 1:
        return values
    return np.fmax.reduce(np.asarray(multihost_utils.process_allgather(values)), axis=0)


def gather(value: Any) -> list[Any]:
    """Returns the JSON value of each process, in their order, after all have come to this point."""
    if jax.process_count() == 1:
        return [value]
    content = np.frombuffer(json.dumps(value, sort_keys=True, default=str).encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(content))))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(content)] = content
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [
        json.loads(bytes(row[:length])) for row, length in zip(rows, lengths.ravel(), strict=True)
    ]


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
