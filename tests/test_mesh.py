"""Where devices stand in a mesh: in the order of their processes, whatever the torus."""

import dataclasses
import itertools
import subprocess
import sys

import numpy as np
import pytest

from danet_jax.base.errors import UserError
from danet_jax.runtime.launchers import PROCESS_VARIABLES
from danet_jax.runtime.parallel import device_grid
from tests.compiler import xla_flags
from tests.launcher import ROOT
from tests.test_processes import free_port


@dataclasses.dataclass(frozen=True)
class Chip:
    """What the mesh reads of a TPU's device."""

    id: int
    process_index: int
    coords: tuple[int, int, int]
    core_on_chip: int = 0


@dataclasses.dataclass(frozen=True)
class Gpu:
    id: int
    process_index: int


def topology(shape, *, host=(2, 2, 1), cores=1):
    """Devices as libtpu lists those of a slice: ids along the torus, host after host.

    This is what jax.experimental.topologies answers for v5e, v6e (4x4, 16x16), v4 and v5p.
    """
    hosts = [side // part for side, part in zip(shape, host, strict=True)]
    devices = []
    for z, y, x, core in itertools.product(*map(range, reversed(shape)), range(cores)):
        place = [c // part for c, part in zip((x, y, z), host, strict=True)]
        process = (place[2] * hosts[1] + place[1]) * hosts[0] + place[0]
        devices.append(Chip(len(devices), process, (x, y, z), core))
    return sorted(devices, key=lambda chip: chip.process_index)


V5E_16 = topology((4, 4, 1))
TOPOLOGIES = {
    "v5e:2x2": topology((2, 2, 1)),
    "v5e:4x4": V5E_16,
    "v5e:2x4, one host": topology((4, 2, 1), host=(4, 2, 1)),
    "v5e:16x16": topology((16, 16, 1)),
    "v4:2x2x2": topology((2, 2, 2), cores=2),
    "v5p:2x2x4": topology((2, 2, 4)),
    "two slices": [
        *V5E_16,
        *(dataclasses.replace(c, id=c.id + 16, process_index=c.process_index + 4) for c in V5E_16),
    ],
}


def test_the_stand_ins_are_the_real_ones():
    """The first half of what libtpu 0.0.42 lists for v5e:4x4: (id, process, x, y)."""
    listed = [(c.id, c.process_index, *c.coords[:2]) for c in V5E_16[:8]]
    assert listed == [
        (0, 0, 0, 0), (1, 0, 1, 0), (4, 0, 0, 1), (5, 0, 1, 1),
        (2, 1, 2, 0), (3, 1, 3, 0), (6, 1, 2, 1), (7, 1, 3, 1),
    ]  # fmt: skip


@pytest.mark.parametrize("space", [1, 2, 4])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_rows_of_an_image_stay_on_one_process_and_near_each_other(name, space):
    devices = TOPOLOGIES[name]
    grid = device_grid(devices[::-1], space=space)
    assert grid.shape == (len(devices) // space, space)
    assert {device.id for device in grid.flat} == set(range(len(devices)))
    owners = [device.process_index for device in grid.flat]
    assert owners == sorted(owners)
    for row in grid:
        assert len({device.process_index for device in row}) == 1
        for one, other in itertools.pairwise(row):
            steps = np.abs(np.subtract(one.coords, other.coords)).sum()
            # One link of the torus, or the other core of the same chip.
            assert steps + abs(one.core_on_chip - other.core_on_chip) == 1


def test_devices_without_coordinates_are_ordered_by_process_and_id():
    gpus = [Gpu(3, 0), Gpu(0, 1), Gpu(1, 1), Gpu(2, 0)]
    grid = device_grid(gpus, space=2)
    assert [[gpu.id for gpu in row] for row in grid] == [[2, 3], [0, 1]]


@pytest.mark.parametrize("space", [8, 16])
def test_rows_of_an_image_lie_on_whole_neighbouring_processes(space):
    grid = device_grid(V5E_16[::-1], space=space)
    assert grid.shape == (16 // space, space)
    owners = np.vectorize(lambda device: device.process_index)(grid)
    assert owners.ravel().tolist() == sorted([0, 1, 2, 3] * 4)


@pytest.mark.parametrize("space", [3, 6, 12, 32])
def test_grids_that_cannot_be_are_refused(space):
    says = rf"mesh\.space is {space}, .* the 4 devices of a process, nor .* that divides all 16"
    with pytest.raises(UserError, match=says):
        device_grid(V5E_16, space=space)
    with pytest.raises(UserError, match=r"2 or 4 devices: start all of them with equally many"):
        device_grid(V5E_16[:6], space=2)


# Each of two processes with two devices puts its part of a batch whose pixels say where they are.
TWO_PROCESSES = """
import jax, numpy as np
from jax.sharding import AxisType, Mesh
from danet_jax.runtime import parallel

parallel.initialize(distributed=True)
whole = np.arange(4 * 8 * 3).reshape(4, 8, 3)
first = 2 * jax.process_index()
part = {"image": whole[first : first + 2]}

placed = parallel.put_batch(part, parallel.create_mesh(space=2), examples=4)["image"]
assert placed.shape == whole.shape, placed.shape
for shard in placed.addressable_shards:
    np.testing.assert_array_equal(shard.data, whole[shard.index])
    assert shard.data.shape == (2, 4, 3)

# Both load the same images, and put other rows of them.
shared = parallel.create_mesh(space=4)
assert parallel.loading(shared) == {"process_index": 0, "process_count": 1}
assert parallel.loading(parallel.create_mesh(space=2))["process_count"] == 2
placed = parallel.put_batch({"image": whole}, shared, examples=4)["image"]
assert placed.shape == whole.shape, placed.shape
rows = set()
for shard in placed.addressable_shards:
    np.testing.assert_array_equal(shard.data, whole[shard.index])
    assert shard.data.shape == (4, 2, 3)
    rows.add(shard.index[1].start // 4)
assert rows == {jax.process_index()}

# As jax.make_mesh orders the devices of a torus, where hosts lie beside each other.
torus = np.array(sorted(jax.devices(), key=lambda device: device.id % 2)).reshape(2, 2)
assert torus[0, 0].process_index != torus[0, 1].process_index
mixed = Mesh(torus, parallel.AXES, axis_types=(AxisType.Auto,) * 2)
for wrong, batch in ((mixed, part), (parallel.create_mesh(), {"image": whole[:3]})):
    try:
        found = parallel.put_batch(batch, wrong, examples=4)["image"].shape
    except ValueError as error:
        print("refused:", error)
    else:
        print("stitched", found)
"""


def test_two_processes_put_their_own_parts_of_a_batch(workplace):
    address = f"127.0.0.1:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES],
            cwd=ROOT,
            env=workplace.environment
            | {"XLA_FLAGS": xla_flags(2)}
            | dict(zip(PROCESS_VARIABLES, (address, "2", str(index)), strict=True)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in processes:
        stdout, stderr = process.communicate(timeout=100)
        assert process.returncode == 0, stderr
        mixed, incomplete = stdout.splitlines()
        assert mixed.startswith("refused: the mesh has processes [[0, 1], [0, 1]]")
        assert incomplete.startswith("refused: 'image' has 3 examples on process")
