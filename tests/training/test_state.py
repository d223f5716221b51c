"""One training step of a tiny network with all the parts of the large one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax.models import layers
from danet_jax.network import abstract_variables, compiled_init
from danet_jax.runtime import parallel
from danet_jax.training.setup import set_up
from danet_jax.training.state import (
    _accumulated_gradients,
    _gradients,
    step_settings,
)
from tests.training.tiny import random_batch, random_variables, tiny_config

TOTAL_STEPS = 10
DECAY = 0.75


@functools.cache
def first_state(**train):
    config = tiny_config(auxiliary_head=True, dropout_rate=0.3, train=train)
    config.optimizer.learning_rate = 0.02
    model = danet_jax.create_model(config.model)
    return danet_jax.create_train_state(config, model, random_variables(model), TOTAL_STEPS)


def new_state(**train):
    """A copy, for steps that donate; of one state, since each optimiser compiles anew."""
    return jax.tree.map(jnp.copy, first_state(**train))


def device_batch(size, seed=0):
    return jax.tree.map(jnp.asarray, random_batch(size, seed=seed))


@pytest.fixture(scope="module")
def counted_step(light_compilation):
    """The compiled step, and a list that grows by one with each trace of it."""
    traces = []

    def counted(state, batch):
        traces.append(None)
        return danet_jax.train_step(state, batch)

    return jax.jit(counted, donate_argnums=0), traces


@pytest.fixture(scope="module")
def step(counted_step):
    return counted_step[0]


@pytest.fixture(scope="module")
def gradients(light_compilation):
    return jax.jit(_gradients)


def assert_trees(ours, theirs, *, rtol=1e-5, atol=1e-6):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))


def test_a_run_starts_with_its_seeds_weights_and_traces_once(light_compilation, monkeypatch):
    traced, original = [], layers.convolve

    def convolve(*args, **options):
        traced.append(None)
        return original(*args, **options)

    monkeypatch.setattr(layers, "convolve", convolve)
    # A network that no other test has traced.
    config = tiny_config(attention=(), width=3)
    config.seed = 2**32 - 1
    model, mesh = danet_jax.create_model(config.model), parallel.create_mesh()
    with jax.set_mesh(mesh):
        abstract_variables(model)
        once = len(traced)
        setup = set_up(config, mesh, TOTAL_STEPS)
        abstract = setup.abstract_state()
        state = setup.create_state()
    assert once == len(traced) > 10
    assert jax.tree.map(jnp.shape, abstract) == jax.tree.map(jnp.shape, state)
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get(state.variables),
        jax.device_get(compiled_init(model, config.seed)),
    )


def test_three_steps_donate_their_state_and_trace_once(counted_step):
    step, traces = counted_step
    state = new_state(ema_decay=DECAY)
    for index in range(3):
        former = state
        state, metrics = step(state, device_batch(2, seed=index))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(former))
        # Of a copy: what numpy has a view of cannot be donated (jax 0.11).
        assert int(jnp.copy(state.step)) == index + 1
        np.testing.assert_allclose(
            metrics["learning_rate"], 0.02 * (1 - index / TOTAL_STEPS) ** 0.9, rtol=1e-6
        )
    assert len(traces) == 1


def test_average_of_weights_and_statistics_and_metrics(step, gradients):
    old = jax.device_get(new_state(ema_decay=DECAY))
    key = jax.random.fold_in(jax.random.key(0), 0)
    expected, statistics, losses = gradients(
        new_state(ema_decay=DECAY), old.batch_stats, device_batch(2), key
    )
    new, metrics = step(new_state(ema_decay=DECAY), device_batch(2))

    for name in ("params", "batch_stats"):
        assert_trees(
            new.ema[name],
            jax.tree.map(
                lambda a, b: DECAY * a + (1 - DECAY) * np.asarray(b),
                old.ema[name],
                getattr(new, name),
            ),
        )
    assert new.eval_variables is new.ema
    # With weight decay and the head's factor, the first step moves by lr (g + wd p).
    assert_trees(
        new.params,
        jax.tree.map_with_path(
            lambda path, p, g: (
                p - 0.02 * (10 if path[0].key != "backbone" else 1) * (np.asarray(g) + 1e-4 * p)
            ),
            old.params,
            expected,
        ),
    )
    assert_trees(new.batch_stats, statistics)
    parts = {name: metrics[f"loss_{name}"] for name in ("fused", "position", "channel")}
    np.testing.assert_allclose(
        metrics["loss"], sum(parts.values()) + 0.4 * metrics["loss_auxiliary"], rtol=1e-6
    )
    np.testing.assert_allclose(metrics["loss"], losses["loss"], rtol=1e-6)
    squares = [np.sum(np.square(leaf)) for leaf in jax.tree.leaves(jax.device_get(expected))]
    np.testing.assert_allclose(metrics["gradient_norm"], np.sqrt(sum(squares)), rtol=1e-5)


def test_dropout_differs_by_step_and_comes_back_with_it(step):
    def loss(at):
        state = new_state(ema_decay=DECAY).replace(step=jnp.int32(at))
        return float(step(state, device_batch(2))[1]["loss"])

    losses = [loss(0), loss(1), loss(2)]
    assert len(set(losses)) == 3
    assert [loss(0), loss(1), loss(2)] == losses


def test_without_average_the_variables_themselves_are_the_best():
    state = new_state()
    assert state.ema is None
    assert state.eval_variables == state.variables


def test_accumulation_is_the_mean_of_the_parts(gradients, light_compilation):
    state = new_state(accumulation_steps=2)
    batch = device_batch(4)
    ours, statistics, metrics = jax.jit(_accumulated_gradients)(state, batch)

    # Each part takes every second example, and its own dropout.
    plain = new_state(ema_decay=DECAY)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 2)
    parts = [jax.tree.map(lambda x, i=i: x[i::2], batch) for i in range(2)]
    found = gradients(plain, plain.batch_stats, parts[0], keys[0])
    # In numpy from here: each operation would be compiled for each shape.
    first, after_first, first_metrics = jax.device_get(found)
    found = gradients(plain, after_first, parts[1], keys[1])
    second, after_second, second_metrics = jax.device_get(found)

    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(first))
    assert_trees(
        ours,
        jax.tree.map(lambda a, b: (a + b) / 2, first, second),
        rtol=1e-4,
        atol=1e-6 * largest,
    )
    assert_trees(metrics, jax.tree.map(lambda a, b: (a + b) / 2, first_metrics, second_metrics))
    assert_trees(statistics, after_second)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after_first, after_second)
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_another_seed_is_no_other_program(light_compilation):
    """Neither of those that JAX keeps nor of those that the next start takes over."""
    traces = []

    def counted(state, batch):
        traces.append(None)
        return danet_jax.train_step(state, batch)

    step, losses, states = jax.jit(counted), [], []
    for seed in (0, 1):
        # No attention, which compiles sooner.
        config = tiny_config(attention=(), dropout_rate=0.3)
        config.seed = seed
        model = danet_jax.create_model(config.model)
        settings = step_settings(config, model, TOTAL_STEPS)
        states.append(
            danet_jax.create_train_state(config, model, random_variables(model), TOTAL_STEPS)
        )
        assert states[-1].settings == settings
        losses.append(float(step(states[-1], device_batch(2))[1]["loss"]))
    first, second = states
    assert first.settings == second.settings
    assert hash(first.settings) == hash(second.settings)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert len(traces) == 1
    assert step._cache_size() == 1
    # But the seed is that of dropout.
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("loss.name", "focal"),
        ("optimizer.learning_rate", 0.5),
        ("train.ema_decay", 0.5),
        ("train.clip_norm", 3.0),
        ("train.accumulation_steps", 2),
        ("model.dropout_rate", 0.7),
        ("loss.logit_memory", 3),
    ],
)
def test_what_a_step_reads_is_another_program(field, value):
    def settings(config):
        return step_settings(config, danet_jax.create_model(config.model), TOTAL_STEPS)

    former, config = settings(tiny_config()), tiny_config()
    section, _, name = field.partition(".")
    assert config[section][name] != value
    config[section][name] = value
    assert settings(config) != former
    config = tiny_config()
    assert step_settings(config, former.model, TOTAL_STEPS + 1) != former
