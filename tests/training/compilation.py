"""Tiny networks compile for far longer than they run."""

import jax
import pytest


@pytest.fixture(scope="module")
def light_compilation():
    """Leaves out most of the compiler's optimisations, within a module's tests."""
    former = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", former)
