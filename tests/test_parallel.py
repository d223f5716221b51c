"""One step on eight devices is the step on one."""

import jax
import numpy as np
import pytest

import danet_jax
from configs import common
from danet_jax import parallel
from danet_jax.errors import UserError
from danet_jax.training.state import _gradients, init_variables


def mesh_of(data, space):
    return parallel._mesh((data, space), jax.devices()[: data * space])


@pytest.fixture(scope="module")
def step():
    """Gradients, statistics and metrics of one batch of 8 on a mesh, all as numpy."""
    config = common.get_config()
    config.model.backbone = "resnet18"
    config.model.width = 4
    config.model.num_classes = 5
    config.model.multi_grid = ()
    config.model.auxiliary_head = True
    model = danet_jax.create_model(config.model)
    variables = init_variables(model, 0)
    # Else the attentions' own gradients are nearly zero.
    for name in ("position_attention", "channel_attention"):
        variables["params"]["head"][name]["gamma"] += 0.5
    generator = np.random.default_rng(0)
    batch = {
        "image": generator.integers(0, 256, (8, 32, 48, 3), np.uint8),
        "label": generator.integers(0, 5, (8, 32, 48)).astype(np.uint8),
    }
    # Unequal numbers of labelled pixels on the devices: a mean of means would be another number.
    batch["label"][:3, :20] = 255
    key = jax.random.key(1)

    def run(mesh):
        state = danet_jax.create_train_state(config, model, variables, 10)
        state = jax.device_put(state, parallel.replicated(mesh))
        with jax.set_mesh(mesh):
            placed = parallel.put_batch(batch, mesh)
            return jax.device_get(jax.jit(_gradients)(state, state.batch_stats, placed, key))

    return run


@pytest.fixture(scope="module")
def on_one_device(step):
    return step(mesh_of(1, 1))


@pytest.mark.parametrize(("data", "space"), [(8, 1), (4, 2)])
def test_sharded_step_equals_that_of_one_device(step, on_one_device, data, space):
    for ours, theirs in zip(step(mesh_of(data, space)), on_one_device, strict=True):
        # Of gradients, of running statistics, of losses.
        largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs))
        for (path, a), b in zip(
            jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True
        ):
            assert np.abs(a - b).max() <= 1e-5 * largest, jax.tree_util.keystr(path)


def test_batch_rows_are_spread_over_data_and_image_rows_over_space():
    mesh = mesh_of(4, 2)
    image = np.arange(8 * 6 * 2).reshape(8, 6, 2).astype(np.float32)
    placed = parallel.put_batch({"image": image}, mesh)["image"]
    np.testing.assert_array_equal(placed, image)
    shards = {shard.device: np.asarray(shard.data) for shard in placed.addressable_shards}
    np.testing.assert_array_equal(shards[mesh.devices[1, 1]], image[2:4, 3:])


def test_mesh_has_all_devices():
    assert dict(parallel.create_mesh(space=2).shape) == {"data": 4, "space": 2}


@pytest.mark.parametrize("space", [0, 3])
def test_mesh_that_does_not_divide_is_an_error(space):
    with pytest.raises(UserError, match=f"config.mesh.space is {space}, .* 8 devices"):
        parallel.create_mesh(space=space)


@pytest.mark.parametrize(
    ("batch_size", "height", "message"),
    [(6, 32, "A batch of 6 .* 4 devices"), (8, 33, "height 33 .* config.mesh.space 2")],
)
def test_batch_that_does_not_divide_is_an_error(batch_size, height, message):
    with pytest.raises(UserError, match=message):
        parallel.check_divisible(mesh_of(4, 2), batch_size=batch_size, height=height)


def test_counts_of_one_process_are_their_own_sum():
    counts = np.array([[2**40, 1], [0, 3]], np.int64)
    np.testing.assert_array_equal(parallel.sum_over_processes(counts), counts)
