"""File systems that lock nothing (Lustre, NFS without its lock service): the work goes on."""

import errno
import fcntl
import os

import pytest

from danet_jax.base.errors import DataError, UserError
from danet_jax.configs import common
from danet_jax.input_pipeline.labels import Labels
from danet_jax.input_pipeline.storage import preparation
from danet_jax.runs import folder as run_folder
from danet_jax.runs import history, opening

LABELS = Labels(names=("road", "sky"), colors=((1, 2, 3), (4, 5, 6)))
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
RECORD = dict.fromkeys((*history.EVALUATION_KEY, "iou", "metrics", "seconds_per_image"), 0)


@pytest.fixture(params=NO_LOCKS, ids=lambda number: errno.errorcode[number])
def reason(request, monkeypatch):
    """A file system without locks for this test; what it answers."""

    def refuse(*_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return os.strerror(request.param)


def test_a_run_goes_on_without_locks_and_says_so_once(reason, tmp_path, capsys):
    run, config = tmp_path / "run", common.get_config()
    config.model.num_classes = len(LABELS.names)
    for fresh in (False, True):
        with opening.opened(config, run, fresh=fresh, labels=LABELS):
            assert run_folder.read_classes(run)[0] == LABELS.names
    assert len(list(tmp_path.glob("run.*"))) == 1
    assert history.add_evaluation(run, RECORD) == [RECORD]
    said = [line for line in capsys.readouterr().err.splitlines() if "lock" in line]
    assert len(said) == 1
    assert f"{run} is on a file system without locks ({reason})" in said[0]
    assert "at the same time would not be noticed" in said[0]


def test_an_evaluation_alone_says_so_too(reason, tmp_path, capsys):
    assert history.add_evaluation(tmp_path, RECORD) == [RECORD]
    assert f"without locks ({reason})" in capsys.readouterr().err


def test_a_preparation_goes_on_without_locks(reason, tmp_path, capsys):
    with preparation._locked(tmp_path):
        pass
    assert f"without locks ({reason})" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_lock_that_another_holds_is_still_respected(tmp_path):
    for locked, refusal in ((opening._locked, UserError), (preparation._locked, DataError)):
        with locked(tmp_path), pytest.raises(refusal, match="nother process"):
            locked(tmp_path).__enter__()


def test_a_pipe_in_place_of_a_lock_is_refused(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    for locked, refusal in ((opening._locked, UserError), (preparation._locked, DataError)):
        with pytest.raises(refusal, match=r"\.lock is in the way.*Move it away"):
            locked(tmp_path).__enter__()
    assert (tmp_path / ".lock").is_fifo()
