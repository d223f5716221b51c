"""What belongs to a run, and what `--fresh` moves."""

import contextlib
from pathlib import Path

import pytest

from danet_jax.base.errors import UserError
from danet_jax.configs import common
from danet_jax.input_pipeline.labels import Labels
from danet_jax.runs import folder as run_folder
from danet_jax.runs import opening

LABELS = Labels(names=("road", "sky"), colors=((1, 2, 3), (4, 5, 6)))


def start(workdir, *, fresh=False, **optimizer):
    config = common.get_config()
    config.optimizer.update(optimizer)
    with opening.opened(config, workdir, fresh=fresh, labels=LABELS):
        pass


@pytest.mark.parametrize("name", ["24", "replaced-24"])
def test_a_checkpoint_that_is_being_replaced_belongs_to_the_run(tmp_path, name):
    start(tmp_path)
    assert not run_folder.has_checkpoint(tmp_path)
    start(tmp_path, momentum=0.5)
    checkpoint = tmp_path / "checkpoints" / name
    for part in ("state", "record"):
        (checkpoint / part).mkdir(parents=True)
    (checkpoint / "_CHECKPOINT_METADATA").write_text("{}")
    (checkpoint / "record" / "metadata").write_text('{"stream": {}, "config": {}}')
    assert run_folder.has_checkpoint(tmp_path)
    with pytest.raises(UserError, match=r"config.optimizer.momentum: 0.5 in it, 0.25 asked for"):
        start(tmp_path, momentum=0.25)


def test_what_a_kill_left_of_a_checkpoint_is_none(tmp_path):
    (tmp_path / "checkpoints" / "24.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not run_folder.has_checkpoint(tmp_path)


def test_a_fresh_run_begins_where_the_link_leads(tmp_path, capfd):
    disk, link = tmp_path / "disk" / "run", tmp_path / "run"
    disk.mkdir(parents=True)
    link.symlink_to(disk)
    start(link, momentum=0.5)
    start(link, fresh=True, momentum=0.25)
    assert link.is_symlink()
    assert run_folder.read_config(disk).optimizer.momentum == 0.25
    (old,) = (path for path in disk.parent.iterdir() if path != disk)
    assert run_folder.read_config(old).optimizer.momentum == 0.5
    assert capfd.readouterr().err == f"the old run is now in {old}\n"


def test_a_fresh_run_cannot_move_the_current_folder(tmp_path, monkeypatch):
    start(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"cannot move {tmp_path}, the current folder"):
        start(Path("."), fresh=True)
    assert run_folder.read_config(tmp_path)


def test_two_trainings_exclude_each_other(tmp_path):
    with contextlib.ExitStack() as stack:
        opened = opening.opened(common.get_config(), tmp_path, fresh=False, labels=LABELS)
        stack.enter_context(opened)
        with pytest.raises(UserError, match="Another process is training"):
            start(tmp_path)
    start(tmp_path)
