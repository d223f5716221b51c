import jaxtyping
import pytest

import danet_jax
import main
from danet_jax.runs import config as configuration
from tests.interop import state_dicts
from tests.interop.command import FIELDS
from tests.training.compilation import light_compilation

__all__ = ["light_compilation"]


@pytest.fixture(scope="module")
def config():
    return configuration.load_config("configs/camvid.py:runlocal", FIELDS)


@pytest.fixture(scope="module")
def model(config):
    return danet_jax.create_model(config.model)


@pytest.fixture
def arrays(model):
    return state_dicts.mmsegmentation(model)


@pytest.fixture
def open_sizes(monkeypatch):
    """Sizes are symbols while a program is exported, and the annotations' are numbers."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def command(monkeypatch, capfd, light_compilation):
    """Runs a command line in this process; returns its status, output and errors."""
    monkeypatch.setattr("danet_jax.runtime.start.set_up_cache", lambda: None)
    monkeypatch.setattr("sys.unraisablehook", None)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments):
        capfd.readouterr()
        status = main.run([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run
