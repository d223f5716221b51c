"""Only what is this user's own is loaded as a compiled program."""

import os
import pickle
import subprocess
import sys

import jax
import numpy as np
import pytest

from danet_jax.platform import Target
from danet_jax.runtime import cache, compilation, parallel
from danet_jax.runtime.private import private_folder
from tests.launcher import ROOT

SOMEBODY = 54321


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache as a former start made it."""
    os.chmod(tmp_path, 0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "danet_jax"
    assert private_folder(folder) == ""
    (folder / "program").write_bytes(b"compiled")
    os.chmod(folder / "program", 0o644)
    return folder


def test_the_folder_is_made_for_its_user_alone(folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(folder) == ""


def anybody_may_write(folder):
    os.chmod(folder, 0o777)
    return folder


def a_group_may_write(folder):
    os.chown(folder, -1, SOMEBODY)
    os.chmod(folder, 0o770)
    return folder


def anybody_may_write_a_file(folder):
    os.chmod(folder / "program", 0o666)
    return folder / "program"


def a_file_of_somebody_else(folder):
    os.chown(folder / "program", SOMEBODY, -1)
    return folder / "program"


def a_folder_of_somebody_else(folder):
    os.chown(folder, SOMEBODY, -1)
    return folder


def anybody_may_rename_it(folder):
    os.chmod(folder.parent, 0o777)
    return folder.parent


def a_parent_of_somebody_else(folder):
    os.chown(folder.parent, SOMEBODY, -1)
    return folder.parent


def a_link_to_what_anybody_may_write(folder):
    target = folder.parent / "target"
    folder.rename(target)
    os.chmod(target, 0o777)
    folder.symlink_to(target)
    return target


def a_link_to_a_file(folder):
    (folder / "link").symlink_to(folder / "program")
    return folder / "link"


CASES = [
    anybody_may_write,
    a_group_may_write,
    anybody_may_write_a_file,
    a_file_of_somebody_else,
    a_folder_of_somebody_else,
    anybody_may_rename_it,
    a_parent_of_somebody_else,
    a_link_to_what_anybody_may_write,
    a_link_to_a_file,
]


@pytest.mark.parametrize("arrange", CASES, ids=lambda case: case.__name__)
def test_what_others_may_have_written_is_not_trusted(folder, arrange, capsys, monkeypatch):
    if os.geteuid() and arrange.__name__.endswith(("else", "group_may_write")):
        pytest.skip("only root gives files away")
    place = arrange(folder)
    assert str(place) in private_folder(folder)
    updates = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    cache.set_up_cache.__wrapped__()
    assert updates["jax_compilation_cache_dir"] is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"neither read from {folder} nor kept there" in said
    assert str(place) in said


def test_below_a_sticky_folder_each_has_his_own(folder):
    os.chmod(folder.parent, 0o1777)
    assert private_folder(folder) == ""


class Planted:
    """Leaves a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (self.file, "w")


@pytest.mark.slow
@pytest.mark.parametrize("others_may_write", [False, True])
def test_a_planted_program_is_not_run(folder, tmp_path, others_may_write):
    """Not even in the user's own folder is anything unpickled."""
    ran = tmp_path / "ran"
    mesh = parallel.create_mesh()
    replicated = parallel.replicated(mesh)
    ones = jax.ShapeDtypeStruct((3,), "float32", sharding=replicated)
    former = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(folder))
    try:
        name = compilation._key(ones, "", Target.of_mesh(mesh)) + ".stablehlo"
        (folder / name).write_bytes(pickle.dumps(Planted(str(ran))))
        if others_may_write:
            os.chmod(folder, 0o777)
        step = compilation.CachedStep(
            lambda state, batch: (state + 1, {"loss": batch.sum()}),
            lambda: ones,
            ones,
            mesh=mesh,
            settings="",
        )
        assert step.is_cached is not others_may_write
        state, metrics = step.compiled(*jax.device_put((np.ones(3, np.float32),) * 2, replicated))
    finally:
        jax.config.update("jax_compilation_cache_dir", former)
    assert state.tolist() == [2, 2, 2]
    assert metrics["loss"] == 3
    assert not ran.exists()


def test_a_command_goes_on_without_the_cache(folder):
    os.chmod(folder, 0o777)
    done = subprocess.run(
        [
            *(sys.executable, "main.py", "import-torch", "--config=configs/ade20k.py"),
            *("--config.data.data_dir=no", "--checkpoint=no", f"--workdir={folder / 'run'}"),
        ],
        cwd=ROOT,
        env={**os.environ, "XDG_CACHE_HOME": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"others may write to {folder}; chmod go-w" in done.stderr
    assert "Traceback" not in done.stderr
