"""A strict house: 8 CPU devices, no silent rank promotion, shapes of public functions checked."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jaxtyping

jax.config.update("jax_numpy_rank_promotion", "raise")

jaxtyping.install_import_hook(["danet_jax", "input_pipeline"], "beartype.beartype")

from tests.runs import finished, workplace  # noqa: E402, F401
