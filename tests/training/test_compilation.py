"""Compiled steps that the next start takes over."""

import functools
import os

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import danet_jax
from danet_jax.runtime import compilation, parallel
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


class Unused:
    """Stands for a function that may not be compiled."""

    def lower(self, *_):
        raise AssertionError("compiled again")


def load(function, state, mesh, *, settings="a"):
    batch = parallel.put_batch(random_batch(8), mesh)
    return compilation.Program(function, lambda: state, batch, settings=settings).compiled, batch


def test_a_kept_step_is_the_step(cache, mesh, state):
    function = jax.jit(
        danet_jax.train_step, donate_argnums=0, out_shardings=parallel.replicated(mesh)
    )
    with jax.set_mesh(mesh):
        first, batch = load(function, state, mesh)
        expected, expected_metrics = first(jax.tree.map(lambda x: x.copy(), state), batch)
        (file,) = cache.glob("*.step")
        second, batch = load(Unused(), state, mesh)
        found, metrics = second(state, batch)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(
            jax.tree.leaves((found, metrics)),
            jax.tree.leaves((expected, expected_metrics)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
        # Again, on what the first one returned.
        assert int(second(found, batch)[0].step) == 2

        with pytest.raises(AssertionError, match="compiled again"):
            load(Unused(), expected, mesh, settings="b")
        program = compilation.Program(Unused(), lambda: expected, batch, settings="a")
        assert program.kept
        assert program.compiled is program.compiled
        assert not compilation.Program(Unused(), lambda: expected, batch, settings="b").kept

        file.write_bytes(file.read_bytes()[:1000])
        with pytest.raises(AssertionError, match="compiled again"):
            load(Unused(), expected, mesh)
        # The next start knows that it has to compile.
        assert not file.exists()


@pytest.mark.parametrize("part", ["_code", "_processor", "_settings", "options"])
def test_what_makes_another_program_finds_none(part, cache, mesh, monkeypatch):
    former, batch = key(mesh), parallel.put_batch(random_batch(16), mesh)
    assert key(mesh) == former
    assert compilation._key(batch, "a") != former
    monkeypatch.setattr(compilation, part, lambda: "another")
    assert key(mesh) != former


def key(mesh):
    return compilation._key(parallel.put_batch(random_batch(8), mesh), "a")


def test_old_steps_are_removed(cache):
    for number in range(compilation._KEPT + 3):
        (cache / f"danet_jax-{number}.step").touch()
        os.utime(cache / f"danet_jax-{number}.step", (number, number))
    (cache / "other").touch()
    compilation._remove_old(cache)
    left = {path.name for path in cache.iterdir()}
    numbers = range(3, compilation._KEPT + 3)
    assert left == {"other", *(f"danet_jax-{number}.step" for number in numbers)}


def test_without_a_cache_nothing_is_kept(cache):
    jax.config.update("jax_compilation_cache_dir", None)
    function = jax.jit(lambda state, batch: (state + 1, {"loss": batch.sum()}))
    ones = np.ones(3, np.float32)
    compiled = compilation.Program(function, lambda: ones, ones, settings="").compiled
    assert compiled(ones, ones)[1]["loss"] == 3
    assert not any(cache.iterdir())


def test_what_jax_itself_kept_is_not_kept_again(cache, mesh, state):
    """Written again it would lack its kernels, and fail at the next start."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jitted = functools.partial(jax.jit, donate_argnums=0, out_shardings=parallel.replicated(mesh))
    with jax.set_mesh(mesh):
        batch = parallel.put_batch(random_batch(8), mesh)
        jitted(danet_jax.train_step).lower(state, batch).compile()
        assert any(cache.glob("*-cache"))
        jax.clear_caches()
        load(jitted(danet_jax.train_step), state, mesh)
    assert not any(cache.glob("*.step"))
