"""The same training step on one device and spread over eight, by examples and by rows."""

import dataclasses

import jax
import numpy as np
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.models import resnet
from danet_jax.ops import convolution, position_attention
from danet_jax.ops.shards import Shards
from danet_jax.platform import Target
from danet_jax.runtime import parallel
from danet_jax.training import row_blocks
from danet_jax.training.state import _accumulated_gradients
from tests.training.compilation import light_compilation
from tests.training.tiny import random_batch, random_variables, tiny_config

__all__ = ["light_compilation"]


def state_for(mesh):
    config = tiny_config(auxiliary_head=True, dropout_rate=0.3)
    return created(config, mesh, seed=0)


def created(config, mesh, *, seed):
    target = Target.of_mesh(mesh)
    model = danet_jax.create_model(config.model, platform=target)
    variables = random_variables(model, seed=seed)
    return danet_jax.create_train_state(config, model, variables, 10, target=target)


@pytest.fixture
def large_network(monkeypatch):
    """Makes all take place in a network that only large ones and large maps have."""
    monkeypatch.setitem(resnet.RESNETS, "resnet10", (True, (2, 1, 1, 1)))
    monkeypatch.setattr(convolution, "WINOGRAD_CHANNELS", 4)
    monkeypatch.setattr(convolution, "WINOGRAD_GRADIENT_CHANNELS", 8)
    monkeypatch.setattr(position_attention, "TILE_QUERIES", 6)
    monkeypatch.setattr(position_attention, "TILE_KEYS", 5)
    monkeypatch.setattr(row_blocks, "rows_of_block", lambda *_, **__: 12)
    return tiny_config(
        attention=("position",),
        position_attention="chunked",
        remat="light",
        dropout_rate=0.3,
        train={"accumulation_steps": 2},
    )


def step_on(mesh, state):
    """Gradients, running statistics and metrics of one step over a mesh."""
    with jax.set_mesh(mesh):
        placed = jax.device_put(state, parallel.replicated(mesh))
        batch = parallel.put_batch(random_batch(16), mesh)
        # Another function for each call: what tracing finds on the way depends on the mesh.
        results = jax.jit(lambda state, batch: _accumulated_gradients(state, batch))(placed, batch)
    return jax.device_get(results)


def one_device():
    return jax.make_mesh(
        (1, 1),
        parallel.AXES,
        axis_types=(jax.sharding.AxisType.Auto,) * 2,
        devices=jax.devices()[:1],
    )


@pytest.fixture(scope="module")
def on_one_device(light_compilation):
    return step_on(one_device(), state_for(one_device()))


@pytest.mark.parametrize("space", [1, 2])
def test_a_step_does_not_depend_on_the_devices(on_one_device, light_compilation, space):
    mesh = parallel.create_mesh(space=space)
    assert dict(mesh.shape) == {"data": 8 // space, "space": space}
    assert_same_step(step_on(mesh, state_for(mesh)), on_one_device)


@pytest.mark.parametrize("space", [1, 2])
def test_merged_statistics_give_the_same_step(on_one_device, light_compilation, space):
    """As accelerators exchange them."""
    mesh = parallel.create_mesh(space=space)
    state = state_for(mesh)
    model, shards = state.settings.model, Shards(8 // space, space)
    merging = dataclasses.replace(model.implementation, shards=shards)
    settings = dataclasses.replace(state.settings, model=model.clone(implementation=merging))
    assert_same_step(step_on(mesh, state.replace(settings=settings)), on_one_device)


def test_neither_does_that_of_a_large_network(large_network, light_compilation):
    # With seed 0 a ReLU's input is 0 but for rounding, which jax 0.12 rounds to either side.
    ours, theirs = (
        step_on(mesh, created(large_network, mesh, seed=1))
        for mesh in (parallel.create_mesh(), one_device())
    )
    assert_same_step(ours, theirs)


def assert_same_step(ours, theirs):
    gradients, statistics, metrics = ours
    expected_gradients, expected_statistics, expected_metrics = theirs
    for name, value in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected_gradients))
    # The key bias's true gradient is 0: what is there is rounding.
    assert_close(gradients, expected_gradients, floor=1e-6 * largest)
    assert_close(statistics, expected_statistics)


def assert_close(ours, theirs, *, floor=0.0):
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(
            a,
            b,
            rtol=0,
            atol=1e-5 * np.abs(b).max() + floor,
            err_msg=jax.tree_util.keystr(path),
        )


def test_a_batch_lies_on_the_devices_by_example_and_row():
    batch = random_batch(8)
    mesh = parallel.create_mesh(space=2)
    placed = parallel.put_batch(batch, mesh)
    for name, array in batch.items():
        shards = {shard.device: shard for shard in placed[name].addressable_shards}
        for (data, space), device in np.ndenumerate(mesh.devices):
            rows = slice(16 * space, 16 * space + 16)
            np.testing.assert_array_equal(
                shards[device].data, array[2 * data : 2 * data + 2, rows], err_msg=name
            )


def test_a_tree_lies_whole_on_each_local_device():
    mesh = parallel.local_mesh()
    assert dict(mesh.shape) == {"data": 8, "space": 1}
    (copied,) = parallel.to_local([np.arange(3.0)], mesh)
    assert len(copied.addressable_shards) == 8
    for shard in copied.addressable_shards:
        np.testing.assert_array_equal(shard.data, [0, 1, 2])


@pytest.mark.parametrize("space", [3, 0, -1, 16])
def test_devices_that_do_not_divide_are_an_error(space):
    with pytest.raises(UserError, match=rf"config\.mesh\.space is {space}, .* the 8 devices"):
        parallel.create_mesh(space=space)


def test_batches_and_rows_that_do_not_divide_are_errors():
    mesh = parallel.create_mesh(space=2)
    parallel.check_divisible(mesh, batch_size=12, height=32)
    with pytest.raises(
        UserError, match=r"batch of 6 .*over 4 groups of 2 devices: .* 4, .*space=4"
    ):
        parallel.check_divisible(mesh, batch_size=6, height=32)
    with pytest.raises(UserError, match=r"height 33 of config\.data\.crop_size .*space 2"):
        parallel.check_divisible(mesh, batch_size=8, height=33)


def test_one_process_sums_its_own_counts():
    counts = np.array([[2**40, 1], [0, 3]])
    np.testing.assert_array_equal(parallel.sum_over_processes(counts), counts)
    assert parallel.is_main_process()
    assert parallel.process() == {"process_index": 0, "process_count": 1}
