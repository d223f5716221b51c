"""What is saved comes back bit for bit; what is damaged is said to be."""

import contextlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax import parallel
from danet_jax.errors import UserError
from danet_jax.training.checkpoint import Checkpointer, Record
from tests.training.tiny import random_variables, tiny_config

RECORD = Record(
    stream={"next_batch": 7},
    best={"step": 2, "score": 0.5},
    config={"seed": 0, "model": {"attention": ["position"]}},
)


def new_state(step, *, seed=0, num_classes=3, **train):
    config = tiny_config(num_classes=num_classes, train=train)
    model = danet_jax.create_model(config.model)
    state = danet_jax.create_train_state(config, model, random_variables(model, seed=seed), 10)
    # A momentum that is not zero.
    moving = jax.tree.map(
        lambda x: x + jnp.asarray(seed + 0.5, x.dtype) if x.ndim else x, state.opt_state
    )
    return state.replace(step=jnp.int32(step), opt_state=moving)


def abstract(state):
    place = parallel.replicated(parallel.create_mesh())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state)


def assert_identical(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def checkpointer(tmp_path):
    with contextlib.closing(Checkpointer(tmp_path / "checkpoints")) as checkpointer:
        yield checkpointer


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_everything_comes_back(checkpointer, ema_decay):
    state = new_state(3, seed=1, ema_decay=ema_decay)
    checkpointer.save(state, RECORD, score=0.5)
    checkpointer.wait()
    other = new_state(0, seed=2, ema_decay=ema_decay)
    restored, record = checkpointer.restore(abstract(other), step=3)
    assert_identical(restored, state.replace(model=other.model, optimizer=other.optimizer))
    assert (restored.ema is None) == (ema_decay == 0.0)
    assert int(restored.step) == 3
    assert record == RECORD
    # On all the devices, as asked.
    assert len(restored.params["head"]["fused_classifier"]["conv"]["bias"].sharding.device_set) == 8


def test_the_latest_two_and_the_best_are_kept(checkpointer, tmp_path):
    assert checkpointer.latest_step() is None
    assert checkpointer.best_step() is None
    for step, score in ((1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, None)):
        checkpointer.save(new_state(step), RECORD, score=score)
    checkpointer.wait()
    folders = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert folders == [2, 4, 5]
    assert checkpointer.latest_step() == 5
    assert checkpointer.best_step() == 2


def test_a_step_that_is_saved_again_gets_its_score(checkpointer, tmp_path):
    state = new_state(5)
    checkpointer.save(state, RECORD)
    checkpointer.wait()
    assert not checkpointer.has_score(5)
    checkpointer.save(state, RECORD, score=0.7)
    checkpointer.wait()
    assert checkpointer.has_score(5)
    assert checkpointer.best_step() == 5
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["5"]


def test_a_kill_while_a_step_is_replaced_loses_nothing(tmp_path):
    folder = tmp_path / "checkpoints"
    state = new_state(5, seed=1)
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        checkpointer.save(state, RECORD)
    # What a kill leaves between setting the old one aside and the new one being whole.
    (folder / "5").rename(folder / "replaced-5")
    with contextlib.closing(Checkpointer(folder, clean_up=True)) as checkpointer:
        assert checkpointer.latest_step() == 5
        restored, _ = checkpointer.restore(abstract(state), step=5)
    assert_identical(restored.params, state.params)
    assert not (folder / "replaced-5").exists()


def test_a_torn_checkpoint_is_named_and_the_one_before_is_whole(tmp_path):
    folder = tmp_path / "checkpoints"
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        for step in (1, 2):
            checkpointer.save(new_state(step, seed=step), RECORD)
    files = [path for path in (folder / "2" / "state").rglob("*") if path.is_file()]
    max(files, key=lambda path: path.stat().st_size).unlink()
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        assert checkpointer.latest_step() == 2
        with pytest.raises(UserError) as error:
            checkpointer.restore(abstract(new_state(0)), step=2)
        assert str(folder / "2") in str(error.value)
        assert "Move that folder away" in str(error.value)
    shutil.move(folder / "2", tmp_path / "damaged")
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        restored, _ = checkpointer.restore(abstract(new_state(0)), step=checkpointer.latest_step())
    assert_identical(restored.params, new_state(1, seed=1).params)


def test_another_models_checkpoint_is_refused(checkpointer, tmp_path):
    checkpointer.save(new_state(1), RECORD)
    checkpointer.wait()
    with pytest.raises(UserError) as error:
        checkpointer.restore(abstract(new_state(0, num_classes=4)), step=1)
    assert str(tmp_path / "checkpoints" / "1") in str(error.value)
    assert "is of another model" in str(error.value)
    assert "params.head.fused_classifier.conv.bias is (3,) in it, (4,) in this run" in str(
        error.value
    )


def test_a_step_without_checkpoint_is_an_error(checkpointer):
    checkpointer.save(new_state(1), RECORD)
    checkpointer.wait()
    with pytest.raises(UserError, match="no checkpoint of step 9"):
        checkpointer.restore(abstract(new_state(0)), step=9)


def test_a_write_that_fails_is_an_error(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpointer = Checkpointer(folder)
    # Nobody can write below a file.
    shutil.rmtree(folder)
    folder.touch()

    def write():
        checkpointer.save(new_state(1), RECORD)
        checkpointer.wait()

    with pytest.raises(UserError, match=f"could not be written to {folder}"):
        write()
