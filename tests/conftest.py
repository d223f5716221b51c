"""A strict house: 8 CPU devices, no silent rank promotion, shapes of public functions checked."""

import os
import signal

from tests.compiler import xla_flags

os.environ["XLA_FLAGS"] = xla_flags(8)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

jaxtyping.install_import_hook("danet_jax", "beartype.beartype")

from tests.runs import finished, workplace  # noqa: E402, F401

# Files that take more than about twenty seconds, the longest first: begun last, one of them would
# keep a single process busy. `make test-fast` leaves them out.
SLOW = (
    "test_reference",
    "test_export",
    "test_windows",
    "test_command_line",
    "test_importing",
    "test_weights_folder",
    "test_hub",
    "test_model_card",
    "test_fuzz",
    "test_resume",
    "test_processes",
    "test_benchmark",
    "test_platform",
    "test_parallel",
    "test_compilation",
    "test_recompute",
    "test_shapes",
    "test_state",
    "test_danet",
    "test_configs",
    "test_end_to_end",
    "test_pipeline",
    "test_submission",
    "test_checkpoint",
    "test_platforms_of_exports",
    "test_killed_predict",
    "test_full_size",
    "test_losses",
    "test_devices",
)


# A shell that starts the tests in the background has Ctrl-C ignored, and so would all that they
# start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--fuzz-cases", type=int, default=20, help="cases of hostile input to try")


def pytest_collection_modifyitems(items):
    order = {name: index for index, name in enumerate(SLOW)}
    for item in items:
        if item.path.stem in order or item.get_closest_marker("end_to_end"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: order.get(item.path.stem, len(SLOW)))
