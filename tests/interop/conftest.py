import shutil

import jaxtyping
import pytest

import danet_jax
import main
from danet_jax.runs import config as configuration
from tests.interop import state_dicts
from tests.interop.command import FIELDS
from tests.interop.folders import HOSTILE, change, change_config, export_by_command
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


@pytest.fixture(scope="session")
def exported(workplace, finished, tmp_path_factory):
    """The weights folder of the finished run; nothing may change it."""
    return export_by_command(workplace, finished, tmp_path_factory.mktemp("exported") / "folder")


@pytest.fixture(scope="session")
def changed_run(finished, tmp_path_factory):
    """The run with other settings, hostile texts, a loss of its own and paths of a machine."""
    workdir = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(finished, workdir)
    change(workdir / "config.json", change_config)
    change(workdir / "origin.json", lambda origin: origin.update(loss="lab.own_loss"))
    change(workdir / "classes.json", lambda classes: classes["names"].__setitem__(3, HOSTILE))
    return workdir
