"""A strict house: 8 CPU devices, no silent rank promotion, shapes of public functions checked."""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jaxtyping

jax.config.update("jax_numpy_rank_promotion", "raise")

jaxtyping.install_import_hook(["danet_jax", "input_pipeline"], "beartype.beartype")

from tests.runs import finished, workplace  # noqa: E402, F401

# Files that take a minute or more, the longest first: begun last, one of them would keep a single
# process busy.
LONG = (
    "test_reference",
    "test_resume",
    "test_benchmark",
    "test_command_line",
    "test_fuzz",
    "test_importing",
    "test_windows",
    "test_compilation",
    "test_recompute",
)


def pytest_addoption(parser):
    parser.addoption("--fuzz-cases", type=int, default=40, help="cases of hostile input to try")


def pytest_collection_modifyitems(items):
    order = {name: index for index, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))
