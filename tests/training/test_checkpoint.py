"""What is saved comes back bit for bit; what is damaged is said to be."""

import contextlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.runs.checkpoints import Checkpointer, Record
from danet_jax.runtime import parallel
from tests.training.tiny import random_variables, restore_state, save_state, tiny_config

RECORD = Record(
    stream={"next_batch": 7},
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
    save_state(checkpointer, state, RECORD)
    checkpointer.wait()
    other = new_state(0, seed=2, ema_decay=ema_decay)
    restored, record = restore_state(checkpointer, abstract(other), step=3)
    assert_identical(restored, state.replace(settings=other.settings))
    assert (restored.ema is None) == (ema_decay == 0.0)
    assert int(restored.step) == 3
    assert record == RECORD
    # On all the devices, as asked.
    assert len(restored.params["head"]["fused_classifier"]["conv"]["bias"].sharding.device_set) == 8


def test_folders_of_a_person_are_refused_or_stay(tmp_path):
    place = tmp_path / "checkpoints"
    with contextlib.closing(Checkpointer(place, clean_up=True)) as checkpointer:
        for step in range(1, 6):
            save_state(checkpointer, new_state(step), RECORD)
            checkpointer.add_score(step, 0.1 * step)
            if step == 2:
                # It comes during the training.
                (place / "1000").mkdir()
                (place / "0").mkdir()
                (place / "0" / "notes.txt").write_text("mine")
                shutil.rmtree(place / "1000")
        checkpointer.wait()
    assert (place / "0" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in place.iterdir()) == ["0", "4", "5"]
    with pytest.raises(UserError, match=r"/0 has the name of a checkpoint, and holds none"):
        Checkpointer(place, clean_up=True)
    shutil.rmtree(place / "0")
    (place / "4").rename(tmp_path / "elsewhere")
    (place / "4").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"/4 is a link\. .* put the folder itself here"):
        Checkpointer(place, clean_up=True)
    # An evaluation removes nothing, and reads it.
    with contextlib.closing(Checkpointer(place)) as checkpointer:
        assert checkpointer.best() == (5, 0.5)


@pytest.mark.parametrize("name", ["2", "2.orbax-checkpoint-tmp"])
def test_what_comes_to_the_place_of_a_coming_step_is_not_removed(tmp_path, name):
    place = tmp_path / "checkpoints"
    with contextlib.closing(Checkpointer(place, clean_up=True)) as checkpointer:
        save_state(checkpointer, new_state(1), RECORD)
        (place / name).mkdir()
        (place / name / "thesis.tex").write_text("mine")
        with pytest.raises(UserError, match=rf"/{name} came here while the training was running"):
            save_state(checkpointer, new_state(2), RECORD)
        assert (place / name / "thesis.tex").read_text() == "mine"
        (place / name).rename(tmp_path / "elsewhere")
        save_state(checkpointer, new_state(2), RECORD)
    assert sorted(path.name for path in place.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("file", ["notes.txt", "record/notes.txt", "state/d/thesis.tex"])
def test_a_checkpoint_that_holds_a_persons_files_is_kept(tmp_path, capfd, file):
    place = tmp_path / "checkpoints"
    with contextlib.closing(Checkpointer(place, clean_up=True)) as checkpointer:
        for step in range(1, 6):
            save_state(checkpointer, new_state(step), RECORD)
            checkpointer.wait()
            if step == 1:
                (place / "1" / file).parent.mkdir(exist_ok=True)
                (place / "1" / file).write_text("mine")
            if step == 2:
                (place / "2" / ".DS_Store").write_text("of a file manager")
        checkpointer.add_score(5, 0.5)
    assert sorted(path.name for path in place.iterdir()) == ["1", "4", "5"]
    assert (place / "1" / file).read_text() == "mine"
    said = capfd.readouterr().err
    assert said.count(f"{place / '1'} is kept, as it holds {file}, which") == 1


def test_of_unfinished_checkpoints_only_what_training_wrote_is_removed(tmp_path):
    place = tmp_path / "checkpoints"
    with contextlib.closing(Checkpointer(place)) as checkpointer:
        save_state(checkpointer, new_state(1), RECORD)
    killed = place / "7.orbax-checkpoint-tmp"
    shutil.copytree(place / "1", killed)
    (killed / "state").rename(killed / "state.orbax-checkpoint-tmp-17")
    (place / "8.orbax-checkpoint-tmp").mkdir()
    others = ["40.orbax-checkpoint-tmp-rescued", "my notes on 40.orbax-checkpoint-tmp"]
    for name in others:
        (place / name).mkdir()
        (place / name / "thesis.tex").write_text("mine")
    state = killed / "state.orbax-checkpoint-tmp-17"
    for path in (
        killed / "mine.txt",
        state / "d" / "mine.txt",
        killed / "metrics" / "metrics" / "x",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
        with pytest.raises(UserError, match=r"tmp has the name of a checkpoint that was not fin"):
            Checkpointer(place, clean_up=True)
        path.unlink()
    shutil.rmtree(killed / "metrics")
    with contextlib.closing(Checkpointer(place, clean_up=True)) as checkpointer:
        save_state(checkpointer, new_state(2), RECORD)
    assert sorted(path.name for path in place.iterdir()) == sorted(["1", "2", *others])
    assert all((place / name / "thesis.tex").read_text() == "mine" for name in others)


def test_the_latest_two_and_the_best_are_kept(checkpointer, tmp_path):
    assert checkpointer.latest_step() is None
    assert checkpointer.best_step() is None
    for step, score in ((1, 0.2), (2, 0.9), (3, None), (4, 0.5), (5, None)):
        save_state(checkpointer, new_state(step), RECORD)
        if score is not None:
            checkpointer.add_score(step, score)
    checkpointer.wait()
    folders = sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert folders == [2, 4, 5]
    assert checkpointer.latest_step() == 5
    assert checkpointer.best() == (2, 0.9)


def test_a_step_gets_its_score_later(checkpointer, tmp_path):
    state = new_state(5)
    save_state(checkpointer, state, RECORD)
    checkpointer.wait()
    assert not checkpointer.has_score(5)
    checkpointer.add_score(5, 0.7)
    assert checkpointer.has_score(5)
    assert checkpointer.best() == (5, 0.7)
    # Of two equal ones the later.
    save_state(checkpointer, new_state(6), RECORD)
    checkpointer.add_score(6, 0.7)
    assert checkpointer.best() == (6, 0.7)
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"5", "6"}


def test_what_the_first_release_set_aside_is_brought_back(tmp_path):
    folder = tmp_path / "checkpoints"
    state = new_state(5, seed=1)
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        save_state(checkpointer, state, RECORD)
    # What a kill left there between setting the old one aside and the new one being whole.
    (folder / "5").rename(folder / "replaced-5")
    with contextlib.closing(Checkpointer(folder, clean_up=True)) as checkpointer:
        assert checkpointer.latest_step() == 5
        restored, _ = restore_state(checkpointer, abstract(state), step=5)
    assert_identical(restored.params, state.params)
    assert not (folder / "replaced-5").exists()


def test_what_only_looks_set_aside_stays(tmp_path):
    """Whoever saved a copy of a checkpoint under such a name finds it where he left it."""
    folder = tmp_path / "checkpoints"
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        save_state(checkpointer, new_state(5), RECORD)
    shutil.copytree(folder / "5", folder / "replaced-5")
    (folder / "replaced-5" / "notes.txt").write_text("the good one")
    # Nor is one brought back of a step that training has left behind: it would then be removed.
    shutil.copytree(folder / "5", folder / "replaced-4")
    # No checkpoint, a part of one, and a link to one.
    (folder / "replaced-6").mkdir()
    (folder / "replaced-6" / "mine.txt").write_text("mine")
    shutil.copytree(folder / "5", folder / "replaced-7")
    shutil.rmtree(folder / "replaced-7" / "record")
    (folder / "replaced-8").symlink_to(folder / "5")
    before = {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }
    with contextlib.closing(Checkpointer(folder, clean_up=True)) as checkpointer:
        assert checkpointer.latest_step() == 5
        restore_state(checkpointer, abstract(new_state(0)), step=5)
    assert len(before) > 40
    assert before == {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_a_torn_checkpoint_is_named_and_the_one_before_is_whole(tmp_path):
    folder = tmp_path / "checkpoints"
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        for step in (1, 2):
            save_state(checkpointer, new_state(step, seed=step), RECORD)
    files = [path for path in (folder / "2" / "state").rglob("*") if path.is_file()]
    max(files, key=lambda path: path.stat().st_size).unlink()
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        assert checkpointer.latest_step() == 2
        with pytest.raises(UserError) as error:
            restore_state(checkpointer, abstract(new_state(0)), step=2)
        assert str(folder / "2") in str(error.value)
        assert "Move that folder away" in str(error.value)
    shutil.move(folder / "2", tmp_path / "damaged")
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        restored, _ = restore_state(
            checkpointer, abstract(new_state(0)), step=checkpointer.latest_step()
        )
    assert_identical(restored.params, new_state(1, seed=1).params)


def test_another_models_checkpoint_is_refused(checkpointer, tmp_path):
    save_state(checkpointer, new_state(1), RECORD)
    checkpointer.wait()
    with pytest.raises(UserError) as error:
        restore_state(checkpointer, abstract(new_state(0, num_classes=4)), step=1)
    assert str(tmp_path / "checkpoints" / "1") in str(error.value)
    assert "is of another model" in str(error.value)
    assert "params.head.fused_classifier.conv.bias is (3,) in it, (4,) in this run" in str(
        error.value
    )


def test_a_step_without_checkpoint_is_an_error(checkpointer):
    save_state(checkpointer, new_state(1), RECORD)
    checkpointer.wait()
    with pytest.raises(UserError, match="no checkpoint of step 9"):
        restore_state(checkpointer, abstract(new_state(0)), step=9)


def test_a_write_that_fails_is_an_error(tmp_path):
    folder = tmp_path / "checkpoints"
    checkpointer = Checkpointer(folder)
    # Nobody can write below a file.
    shutil.rmtree(folder)
    folder.touch()

    def write():
        save_state(checkpointer, new_state(1), RECORD)
        checkpointer.wait()

    with pytest.raises(UserError, match=f"could not be written to {folder}"):
        write()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder with a scored checkpoint of step 2, and the state that was saved."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    state = new_state(2, seed=2)
    with contextlib.closing(Checkpointer(folder)) as checkpointer:
        save_state(checkpointer, state, RECORD)
        checkpointer.add_score(2, 0.5)
    return folder, state


def outcome_of(folder, state):
    """What comes back of step 2: all that was saved, or an error that names the folder."""
    message = ""
    try:
        with contextlib.closing(Checkpointer(folder)) as checkpointer:
            assert checkpointer.best() == (2, 0.5)
            restored, record = restore_state(checkpointer, abstract(state), step=2)
    except UserError as error:
        message = str(error)
    if not message:
        assert_identical(restored, state)
        assert record == RECORD
        return "whole"
    assert str(folder / "2") in message
    assert "Move that folder away" in message
    return "refused"


def flip(file, position):
    content = bytearray(file.read_bytes())
    content[position // 8] ^= 1 << position % 8
    file.write_bytes(content)


def test_no_flipped_bit_is_loaded(saved, tmp_path):
    folder, state = saved
    assert outcome_of(folder, state) == "whole"
    generator = np.random.default_rng(0)
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    # Beside these there are what Orbax wrote on the way, marks without content and dates.
    files = [file for file in files if file.match("*/metadata") or file.match("*/metrics")]
    weights = max((folder / "2" / "state").rglob("*"), key=lambda file: file.stat().st_size)
    weights = weights.relative_to(folder)
    found = {}
    for number, file in enumerate([*files, *[weights] * 6]):
        copy = shutil.copytree(folder, tmp_path / str(number))
        flip(copy / file, int(generator.integers(8 * (copy / file).stat().st_size)))
        found.setdefault(str(file), []).append(outcome_of(copy, state))
    # A bit that nothing depends on, such as one of a compressed block's padding, changes nothing:
    # `outcome_of` has compared every array then.
    assert found.pop(str(weights)).count("refused") >= 4
    assert found == {"2/record/metadata": ["refused"], "2/metrics/metrics": ["refused"]}


@pytest.mark.parametrize("part", ["arrays", "record"])
def test_what_is_not_what_was_saved_is_refused(saved, tmp_path, part):
    folder, state = saved
    copy = shutil.copytree(folder, tmp_path / "checkpoints")
    if part == "arrays":
        # Whole and valid, and yet of another state.
        with contextlib.closing(Checkpointer(tmp_path / "other")) as checkpointer:
            save_state(checkpointer, new_state(2, seed=3), RECORD)
        shutil.rmtree(copy / "2" / "state")
        shutil.move(tmp_path / "other" / "2" / "state", copy / "2" / "state")
    else:
        file = copy / "2" / "record" / "metadata"
        record = json.loads(file.read_text())
        file.write_text(json.dumps(record | {"stream": {"next_batch": 8}}))
    assert outcome_of(copy, state) == "refused"


def test_a_checkpoint_of_the_first_release_is_read(saved, tmp_path):
    folder, state = saved
    copy = shutil.copytree(folder, tmp_path / "checkpoints")
    file = copy / "2" / "record" / "metadata"
    record = json.loads(file.read_text())
    del record["digest"]
    file.write_text(json.dumps(record | {"best": {"step": 2, "score": 0.5}}))
    (copy / "2" / "metrics" / "metrics").write_text(json.dumps({"score": 0.5}))
    assert outcome_of(copy, state) == "whole"
