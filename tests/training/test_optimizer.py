"""The optimiser beside a plain transcription of torch.optim.SGD (its documentation's algorithm)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import danet_jax
from danet_jax.configs import common
from danet_jax.network import abstract_variables
from danet_jax.training.optimizer import (
    create_optimizer,
    is_head,
    is_neither_norm_nor_bias,
    learning_rate_schedule,
    warmup_steps,
)
from tests.recipes import recipe_of
from tests.training.tiny import tiny_config

STEPS = 8


def tree(seed):
    generator = np.random.default_rng(seed)

    def array(*shape):
        return jnp.asarray(generator.standard_normal(shape), jnp.float32)

    return {
        "backbone": {
            "stem_conv1": {"kernel": array(1, 1, 3, 2)},
            "stem_bn1": {"scale": array(2), "bias": array(2)},
        },
        "head": {
            "fused_classifier": {"conv": {"kernel": array(1, 1, 2, 3), "bias": array(3)}},
            "position_attention": {"gamma": array()},
        },
        "auxiliary_head": {"classifier": {"conv": {"bias": array(3)}}},
    }


def optimizer_config(**fields):
    config = common.get_config().optimizer
    config.update(fields)
    return config


def run(config, params, gradients, *, clip_norm=0.0):
    optimizer = create_optimizer(config, clip_norm=clip_norm, total_steps=STEPS)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def torch_sgd(config, params, gradients, *, decayed=lambda name: True):
    """Per parameter: d = g + wd p; buf = d at first, momentum buf + d then; p -= lr buf."""
    leaves = jax.tree.leaves_with_path(params)
    result = []
    for index, (path, leaf) in enumerate(leaves):
        value, buffer = np.asarray(leaf, np.float64), None
        factor = 1.0 if path[0].key == "backbone" else config.head_factor
        for step, gradient in enumerate(gradients):
            d = np.asarray(jax.tree.leaves(gradient)[index], np.float64)
            if decayed(path[-1].key):
                d = d + config.weight_decay * value
            buffer = d if buffer is None else config.momentum * buffer + d
            rate = factor * config.learning_rate * (1 - step / STEPS) ** config.poly_power
            value = value - rate * buffer
        result.append(value)
    return jax.tree.unflatten(jax.tree.structure(params), result)


def assert_close(ours, theirs):
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("head_factor", [10.0, 1.0])
def test_three_steps_of_torch_sgd(head_factor):
    config = optimizer_config(learning_rate=0.05, weight_decay=0.1, head_factor=head_factor)
    gradients = [tree(seed) for seed in (1, 2, 3)]
    assert_close(run(config, tree(0), gradients), torch_sgd(config, tree(0), gradients))


def test_decay_can_leave_out_batch_norm_and_biases():
    config = optimizer_config(learning_rate=0.05, weight_decay=0.1, decay_norm_and_bias=False)
    gradients = [tree(seed) for seed in (1, 2)]
    expected = torch_sgd(
        config, tree(0), gradients, decayed=lambda name: name in ("kernel", "gamma")
    )
    assert_close(run(config, tree(0), gradients), expected)

    nothing = [jax.tree.map(jnp.zeros_like, tree(0))]
    after = run(config, tree(0), nothing)
    before = tree(0)
    for name in ("scale", "bias"):
        norm = "stem_bn1"
        np.testing.assert_array_equal(after["backbone"][norm][name], before["backbone"][norm][name])
    np.testing.assert_allclose(
        after["backbone"]["stem_conv1"]["kernel"],
        (1 - 0.05 * 0.1) * before["backbone"]["stem_conv1"]["kernel"],
        rtol=1e-6,
    )


def test_clipping_scales_the_whole_gradient_before_decay():
    config = optimizer_config(learning_rate=0.05, weight_decay=0.1)
    gradient = tree(1)
    norm = float(np.sqrt(sum((np.asarray(x) ** 2).sum() for x in jax.tree.leaves(gradient))))
    clipped = run(config, tree(0), [gradient], clip_norm=norm / 4)
    assert_close(clipped, run(config, tree(0), [jax.tree.map(lambda x: x / 4, gradient)]))
    untouched = run(config, tree(0), [gradient], clip_norm=norm * 1.1)
    assert_close(untouched, run(config, tree(0), [gradient]))


def test_poly_schedule():
    schedule = learning_rate_schedule(optimizer_config(learning_rate=0.01), 10)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 5, 9, 10)],
        [0.01, 0.01 * 0.5**0.9, 0.01 * 0.1**0.9, 0],
        rtol=1e-5,
        atol=1e-9,
    )


def test_poly_schedule_with_a_floor():
    config = optimizer_config(learning_rate=0.01, min_learning_rate=0.0001)
    schedule = learning_rate_schedule(config, 10)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 5, 10)],
        [0.01, 0.0099 * 0.5**0.9 + 0.0001, 0.0001],
        rtol=1e-5,
    )


def rates(steps, **fields):
    schedule = learning_rate_schedule(optimizer_config(learning_rate=0.8, **fields), steps)
    return [float(schedule(step)) for step in range(steps)]


def test_cosine_and_constant_schedules():
    half = [0.1 + 0.7 * (1 + np.cos(np.pi * step / 10)) / 2 for step in range(10)]
    cosine = rates(10, schedule="cosine", min_learning_rate=0.1)
    np.testing.assert_allclose(cosine, half, rtol=1e-6)
    assert rates(3, schedule="constant") == pytest.approx([0.8] * 3)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_a_warm_up_rises_to_the_whole_rate_and_the_schedule_takes_the_rest(schedule):
    warm = rates(20, schedule=schedule, warmup=0.2)
    assert warm[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert warm[4:] == pytest.approx(rates(16, schedule=schedule))


@pytest.mark.parametrize(("share", "steps", "rising"), [(0.02, 10, 0), (0.9, 1, 0), (0.9, 2, 1)])
def test_the_shortest_warm_ups(share, steps, rising):
    assert warmup_steps(optimizer_config(warmup=share), steps) == rising
    found = rates(steps, warmup=share)
    assert found[min(rising, steps - 1)] == pytest.approx(0.8)
    assert np.isfinite(found).all()


def test_lars_scales_kernels_alone():
    """Transcribed from You et al. 2017, algorithm 1, with decay within the gradient's norm."""
    config = optimizer_config(
        learning_rate=2.0, weight_decay=0.1, trust_coefficient=0.01, decay_norm_and_bias=False
    )
    gradients = [tree(seed) for seed in (1, 2, 3)]
    result = []
    for index, (path, leaf) in enumerate(jax.tree.leaves_with_path(tree(0))):
        value, buffer = np.asarray(leaf, np.float64), 0.0
        name, factor = path[-1].key, 1.0 if path[0].key == "backbone" else config.head_factor
        for step, gradient in enumerate(gradients):
            d = np.asarray(jax.tree.leaves(gradient)[index], np.float64)
            if name in ("kernel", "gamma"):
                d = d + 0.1 * value
            if name == "kernel":
                d = d * 0.01 * np.linalg.norm(value) / np.linalg.norm(d)
            buffer = config.momentum * buffer + d
            value = value - factor * 2.0 * (1 - step / STEPS) ** config.poly_power * buffer
        result.append(value)
    expected = jax.tree.unflatten(jax.tree.structure(tree(0)), result)
    assert_close(run(config, tree(0), gradients), expected)


def test_a_state_of_before_fits_where_nothing_new_is_asked_for():
    """Its structure is that of checkpoints; LARS adds nothing that would be saved."""
    state = create_optimizer(optimizer_config(), clip_norm=0.0, total_steps=STEPS).init(tree(0))
    assert len(state) == 5
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(tree(0))) + 1


def test_every_parameter_of_the_network_is_in_one_group():
    config = common.get_config().model
    config.backbone = "resnet50"
    model = danet_jax.create_model(config)
    params = abstract_variables(model)["params"]

    def count(mask, *, of):
        marks = zip(jax.tree.leaves(mask), jax.tree.leaves(params), strict=True)
        return sum(leaf.size for mark, leaf in marks if mark is of)

    # torchvision's ResNet-50 has 25 557 032 parameters, 2 049 000 of them in its classifier.
    assert count(is_head(params), of=False) == 25_557_032 - 2_049_000
    assert count(is_head(params), of=True) == 47_462_651 - (25_557_032 - 2_049_000)

    kernels = is_neither_norm_nor_bias(params)
    for mark, leaf in zip(jax.tree.leaves(kernels), jax.tree.leaves(params), strict=True):
        assert mark is (leaf.ndim in (0, 4))
    # Scale and bias of each of the batch norms' 28 608 channels, biases of PAM and classifiers.
    assert count(kernels, of=False) == 2 * 28_608 + (64 + 64 + 512) + 3 * 19


@pytest.mark.parametrize("attention", [(), ("position",), ("position", "channel")])
def test_weight_decay_acts_on_what_the_recipe_names(attention):
    """A step on gradients of 0 moves what is decayed, and nothing else."""
    for everything, expected in ((True, "every parameter"), (False, "kernels")):
        config = tiny_config(attention=attention, auxiliary_head=True)
        config.optimizer.decay_norm_and_bias = everything
        if attention and not everything:
            expected += " and attention gammas"
        (line,) = (
            line
            for line in recipe_of(config, num_images=8, total_steps=STEPS)
            if line.startswith("Optimiser")
        )
        assert line.endswith(f"weight decay 0.0001 on {expected}")

        shapes = abstract_variables(danet_jax.create_model(config.model))["params"]
        optimizer = create_optimizer(config.optimizer, clip_norm=0.0, total_steps=STEPS)

        def first_updates(params, optimizer=optimizer):
            gradients = jax.tree.map(jnp.zeros_like, params)
            return optimizer.update(gradients, optimizer.init(params), params)[0]

        updates = jax.jit(first_updates)(jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes))
        kinds = {
            path[-1].key: bool((np.asarray(update) != 0).all())
            for path, update in jax.tree.leaves_with_path(updates)
        }
        assert kinds.keys() == {"kernel", "scale", "bias"} | ({"gamma"} if attention else set())
        decayed = {kind for kind, moves in kinds.items() if moves}
        named = {"kernel", *(["gamma"] if attention else [])}
        assert decayed == (set(kinds) if everything else named)
