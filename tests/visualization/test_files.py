import errno
import os

import pytest

from danet_jax.base.errors import UserError
from danet_jax.base.files import replace_file


def test_makes_the_folder_and_replaces_the_old_file(tmp_path):
    path = tmp_path / "a" / "b" / "c.bin"
    replace_file(path, data=b"old")
    assert replace_file(path, data=b"new") == path
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["c.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = tmp_path / "c.bin"
    replace_file(path, data=b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"c\.bin was not written: No space left on device"):
        replace_file(path, data=b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["c.bin"]


def test_a_file_that_another_process_took_for_a_rest_is_written_again(tmp_path, monkeypatch):
    path, replace, taken = tmp_path / "c.bin", os.replace, []

    def take_once(temporary, target):
        if not taken:
            taken.append(temporary)
            os.unlink(temporary)
        replace(temporary, target)

    monkeypatch.setattr(os, "replace", take_once)
    assert replace_file(path, data=b"new").read_bytes() == b"new"
    assert taken
    assert [p.name for p in tmp_path.iterdir()] == ["c.bin"]


def test_an_interrupt_leaves_nothing_half_written(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "c.bin", data=b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(UserError, match="was not written"):
        replace_file(tmp_path / "a" / "c.bin", data=b"")


def test_the_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "usual").write_bytes(b"")
    replace_file(tmp_path / "ours", data=b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
