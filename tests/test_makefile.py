"""What `make` makes and removes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(folder, *arguments, **variables):
    # The tests themselves may run below a make that was given another VENV.
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        ["make", "-f", MAKEFILE, f"PYTHON={sys.executable}", *arguments],
        cwd=folder,
        env=kept | variables,
        capture_output=True,
        text=True,
    )


def test_the_shells_own_environment_is_not_removed(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "pyvenv.cfg").write_text("home = /usr/bin")
    outcome = make(tmp_path, "clean", VENV=str(mine))
    assert outcome.returncode == 0, outcome.stderr
    assert (mine / "pyvenv.cfg").is_file()


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter.txt").write_text("mine")
    # An interpreter that knows its version and can make no environment, as on some systems.
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\n[ "$1" = -c ]\n')
    python.chmod(0o755)
    outcome = make(tmp_path, f"{mine}/bin/python", f"VENV={mine}", f"PYTHON={python}")
    assert outcome.returncode != 0
    assert "name another VENV" in outcome.stdout
    assert make(tmp_path, "clean", f"VENV={mine}").returncode == 0
    assert (mine / "letter.txt").read_text() == "mine"


def test_clean_removes_the_environments(tmp_path):
    for name in (".venv", ".venv-cuda12"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyvenv.cfg").touch()
    assert make(tmp_path, "clean").returncode == 0
    assert not any(tmp_path.glob(".venv*"))
