"""Compiled steps that the next start takes over."""

import functools
import os
import shutil

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import danet_jax
from danet_jax.platform import Target
from danet_jax.runtime import compilation, parallel
from danet_jax.training.setup import set_up
from tests.training.tiny import random_batch, random_variables, tiny_config

pytestmark = pytest.mark.usefixtures("light_compilation")


@pytest.fixture
def cache(tmp_path):
    """An empty folder of compiled programs."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    former = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in former.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module")
def mesh():
    return parallel.create_mesh()


@pytest.fixture
def state(mesh):
    config = tiny_config(dropout_rate=0.3)
    model = danet_jax.create_model(config.model)
    create = functools.partial(danet_jax.create_train_state, config, model)
    made = jax.jit(create, static_argnums=1)(random_variables(model), 10)
    return jax.device_put(made, parallel.replicated(mesh))


def unused(*_):
    """Stands for a function that may not be traced."""
    raise AssertionError("traced again")


def cached(function, state, mesh, *, settings="a"):
    batch = parallel.put_batch(random_batch(8), mesh)
    step = compilation.CachedStep(function, lambda: state, batch, mesh=mesh, settings=settings)
    return step, batch


def load(function, state, mesh, *, settings="a"):
    step, batch = cached(function, state, mesh, settings=settings)
    return step.compiled, batch


def numbers(tree):
    """Leaves that NumPy reads, the key's numbers among them."""
    return [
        jax.random.key_data(leaf)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else leaf
        for leaf in jax.tree.leaves(tree)
    ]


def test_a_kept_step_is_the_step(cache, mesh, state):
    with jax.set_mesh(mesh):
        plain = jax.jit(danet_jax.train_step, out_shardings=parallel.replicated(mesh))
        first, batch = load(danet_jax.train_step, state, mesh)
        plain_state, plain_metrics = plain(state, batch)
        expected, expected_metrics = first(jax.tree.map(lambda x: x.copy(), state), batch)
        # What is exported is the function.
        for a, b in zip(
            numbers((expected, expected_metrics)),
            numbers((plain_state, plain_metrics)),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        (file,) = cache.glob("*.stablehlo")
        second, batch = load(unused, state, mesh)
        found, metrics = second(state, batch)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(
            numbers((found, metrics)), numbers((expected, expected_metrics)), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        # Again, on what the first one returned.
        assert int(second(found, batch)[0].step) == 2

        with pytest.raises(AssertionError, match="traced again"):
            load(unused, expected, mesh, settings="b")
        step, _ = cached(unused, expected, mesh)
        assert step.is_cached
        assert step.is_ready(timeout=100.0)
        assert step.compiled is step.compiled
        assert not cached(unused, expected, mesh, settings="b")[0].is_cached

        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(AssertionError, match="traced again"):
            load(unused, expected, mesh)
        # The next start knows that it has to compile.
        assert not file.exists()


@pytest.mark.parametrize("part", ["_code", "_processor", "_settings", "compiler_options"])
def test_what_makes_another_program_finds_none(part, cache, mesh, monkeypatch):
    former, batch = key(mesh), parallel.put_batch(random_batch(16), mesh)
    assert key(mesh) == former
    assert compilation._key(batch, "a", Target("cpu")) != former
    monkeypatch.setattr(compilation, part, lambda *_: "another")
    assert key(mesh) != former


@pytest.mark.parametrize(
    ("field", "value", "is_another"),
    [
        ("seed", 7, False),
        ("eval.every_steps", 77, False),
        ("model.pretrained_backbone", "resnet50.pth", False),
        ("model.dropout_rate", 0.7, True),
        ("optimizer.learning_rate", 0.5, True),
        ("train.ema_decay", 0.5, True),
    ],
)
def test_a_step_is_kept_for_what_it_reads(field, value, is_another, cache, mesh):
    batch = parallel.put_batch(random_batch(8), mesh)

    def file(config):
        return set_up(config, mesh, 10).cached_step(batch)._file.name

    config = tiny_config()
    former = file(config)
    with config.unlocked():
        config.update_from_flattened_dict({field: value})
    assert config.to_dict() != tiny_config().to_dict()
    assert (file(config) != former) == is_another


def key(mesh):
    return compilation._key(parallel.put_batch(random_batch(8), mesh), "a", Target("cpu"))


def test_old_steps_are_removed(cache):
    for number in range(compilation._KEPT + 3):
        (cache / f"danet_jax-{number:064x}.stablehlo").touch()
        os.utime(cache / f"danet_jax-{number:064x}.stablehlo", (number, number))
    # What a person or another program calls alike stays, however old it is.
    others = {"other", "danet_jax-cityscapes.stablehlo", f"danet_jax-{'a' * 64}.stablehlo.bak"}
    for name in others:
        (cache / name).touch()
        os.utime(cache / name, (0, 0))
    compilation._remove_old(cache)
    left = {path.name for path in cache.iterdir()}
    numbers = range(3, compilation._KEPT + 3)
    assert left == others | {f"danet_jax-{number:064x}.stablehlo" for number in numbers}


def test_without_a_cache_nothing_is_kept(cache, mesh):
    jax.config.update("jax_compilation_cache_dir", None)
    ones = jax.device_put(np.ones(3, np.float32), parallel.replicated(mesh))
    step = compilation.CachedStep(
        lambda state, batch: (state + 1, {"loss": batch.sum()}),
        lambda: ones,
        ones,
        mesh=mesh,
        settings="",
    )
    assert not step.is_cached
    assert not step.is_ready(timeout=0.0)
    assert step.compiled(ones.copy(), ones)[1]["loss"] == 3
    assert not any(cache.iterdir())


def test_what_jax_itself_kept_is_taken_over(cache, mesh, state):
    """The kept function is compiled by JAX, which has done so before."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    hits = []

    def note(event, **_):
        if event.endswith("/cache_hits"):
            hits.append(event)

    with jax.set_mesh(mesh):
        first, batch = load(danet_jax.train_step, state, mesh)
        expected, _ = first(jax.tree.map(lambda x: x.copy(), state), batch)
        assert any(cache.glob("*-cache"))
        assert len([*cache.glob("*.stablehlo")]) == 1
        jax.clear_caches()
        jax.monitoring.register_event_listener(note)
        try:
            second, batch = load(unused, state, mesh)
        finally:
            jax.monitoring.unregister_event_listener(note)
        assert hits
        found, _ = second(state, batch)
    for a, b in zip(numbers(found), numbers(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_sources_of_the_leaf_count(tmp_path, monkeypatch):
    """It holds the statistics of images, which are part of the program."""
    copy = shutil.copytree(compilation._PACKAGE, tmp_path / "danet_jax", symlinks=True)
    compilation._code.cache_clear()
    former = compilation._code()
    monkeypatch.setattr(compilation, "_PACKAGE", copy)
    compilation._code.cache_clear()
    assert compilation._code() == former
    statistics = copy / "base" / "imagenet.py"
    statistics.write_text(statistics.read_text().replace("0.485", "0.5"))
    compilation._code.cache_clear()
    assert compilation._code() != former
    compilation._code.cache_clear()
