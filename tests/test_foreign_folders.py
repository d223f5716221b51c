"""A command removes and overwrites nothing that it did not make itself."""

import argparse
import fcntl
import json
import os
import shutil

import pytest
import safetensors.numpy

import danet_jax
from benchmarks import results
from danet_jax.base import files
from danet_jax.base.errors import UserError
from danet_jax.input_pipeline.storage import preparation
from danet_jax.runs import config as configuration
from danet_jax.runs.checkpoints import Checkpointer
from danet_jax.runtime.compilation import _remove_old
from tests.interop import state_dicts
from tests.interop.command import FIELDS, import_torch
from tests.interop.conftest import command, exported
from tests.runs import digests
from tests.training.compilation import light_compilation

__all__ = ["command", "exported", "light_compilation"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights for `import_torch`."""
    config = configuration.load_config("configs/camvid.py:runlocal", FIELDS)
    file = tmp_path_factory.mktemp("weights") / "theirs.safetensors"
    model = danet_jax.create_model(config.model)
    safetensors.numpy.save_file(state_dicts.mmsegmentation(model), file)
    return file


@pytest.fixture(params=["train", "import-torch"])
def fresh(request, command, workplace, weights):
    """Runs a command with --fresh on a workdir; returns its status and what it said."""

    def run(workdir):
        if request.param == "train":
            batch = "--config.train.batch_size=8"
            arguments = ["train", f"--workdir={workdir}", *workplace.config(batch)]
        else:
            arguments = import_torch(weights, workdir)
        status, said, errors = command(*arguments, "--fresh")
        return status, said + errors

    return run


def foreign_files(folder, finished):
    (folder / "target").mkdir()
    (folder / "target" / "thesis.tex").write_text("mine")


def another_programs_config(folder, finished):
    (folder / "target").mkdir()
    (folder / "target" / "config.json").write_text('{"model_type": "bert", "data": []}')
    (folder / "target" / "weights.json").write_text("{}")


def a_link_to_foreign_files(folder, finished):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "thesis.tex").write_text("mine")
    (folder / "target").symlink_to(folder / "elsewhere")


def a_file(folder, finished):
    (folder / "target").write_text("mine")


def a_folder_below_a_file(folder, finished):
    (folder / "target").symlink_to(folder / "file" / "below")
    (folder / "file").write_text("mine")


def the_current_folder(folder, finished):
    shutil.copytree(finished, folder / "target")
    os.chdir(folder / "target")


def above_the_current_folder(folder, finished):
    shutil.copytree(finished, folder / "target")
    os.chdir(folder / "target" / "checkpoints")


@pytest.mark.parametrize(
    ("arrange", "says"),
    [
        (foreign_files, "does not look like a run"),
        (another_programs_config, "its config.json is not one of ours"),
        (a_link_to_foreign_files, "does not look like a run"),
        (a_file, "is a file"),
        (a_folder_below_a_file, "file/below: Not a directory"),
        (the_current_folder, "the current folder"),
        (above_the_current_folder, "the current folder"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_fresh_leaves_what_it_refuses(fresh, finished, tmp_path, monkeypatch, arrange, says):
    home = os.getcwd()
    # Configs are found from the current folder.
    load = configuration.load_config
    monkeypatch.setattr(
        configuration, "load_config", lambda spec, *more: load(f"{home}/{spec}", *more)
    )
    monkeypatch.setattr("danet_jax.runs.folder.load_config", configuration.load_config)
    try:
        arrange(tmp_path, finished)
        before = digests(tmp_path)
        status, said = fresh(tmp_path / "target")
    finally:
        os.chdir(home)
    assert status == 2
    assert says in said
    assert digests(tmp_path) == before


def test_training_names_another_programs_config(command, workplace, finished, tmp_path):
    another_programs_config(tmp_path, finished)
    before = digests(tmp_path)
    batch = "--config.train.batch_size=8"
    status, said, errors = command(
        "train", f"--workdir={tmp_path / 'target'}", *workplace.config(batch)
    )
    assert status == 2
    assert "its config.json is not one of ours" in said + errors
    assert digests(tmp_path) == before


@pytest.mark.parametrize("name", ["classes.json", "origin.json", "weights.json"])
def test_a_run_without_a_checkpoint_loses_no_file_of_a_person(workplace, finished, tmp_path, name):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(finished / "config.json", run)
    (run / name).write_text('{"my own": "list"}')
    before = digests(run)
    outcome = workplace.run("train", f"--workdir={run}", *workplace.config())
    assert outcome.status == 2
    assert f"{name} would be lost, and is not one that a run wrote: move" in outcome.stderr
    assert digests(run) == before


@pytest.mark.parametrize("config", [True, False])
def test_exported_weights_are_no_workdir(workplace, exported, tmp_path, config):
    folder = shutil.copytree(exported, tmp_path / "weights")
    before = digests(folder)
    place = [f"--config.data.data_dir={workplace.data}"]
    arguments = workplace.config() if config else place
    for more in ([], ["--fresh"]) if config else ([],):
        outcome = workplace.run("train", f"--workdir={folder}", *arguments, *more)
        assert outcome.status == 2
        assert "holds exported weights (manifest.json), not a run" in outcome.stderr
    assert digests(folder) == before


def test_a_run_that_goes_on_keeps_the_colours_that_somebody_chose(workplace, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    classes = json.loads((run / "classes.json").read_text())
    classes["colors"][0] = [1, 2, 3]
    (run / "classes.json").write_text(json.dumps(classes))
    before = (run / "classes.json").read_bytes()
    workplace.train(run)
    assert (run / "classes.json").read_bytes() == before


def test_fresh_leaves_a_run_that_is_being_trained(fresh, finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    before = digests(tmp_path)
    with open(run / ".lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, said = fresh(run)
    assert status == 2
    assert "Another process is training in" in said
    assert digests(tmp_path) == before


def test_fresh_leaves_a_run_that_is_about_to_begin(fresh, tmp_path):
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, _ = fresh(tmp_path / "run")
    assert status == 2
    assert digests(tmp_path).keys() == {"run", "run/.lock"}


@pytest.mark.parametrize("before", ["empty", "old run", "nothing"])
def test_an_import_that_fails_late_leaves_all_as_it_was(
    command, weights, finished, monkeypatch, tmp_path, before
):
    def full(config, workdir, variables):
        (workdir / "checkpoints").mkdir()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("danet_jax.tasks.import_torch.save_start", full)
    run = tmp_path / "folder" / "run"
    if before == "empty":
        run.mkdir(parents=True)
    elif before == "old run":
        shutil.copytree(finished, run)
    found = digests(tmp_path)
    inode = run.stat().st_ino if run.exists() else None
    status, _, errors = command(*import_torch(weights, run, "--fresh"))
    assert status == 2
    assert "No space left on device" in errors
    assert digests(tmp_path) == found
    if inode:
        assert run.stat().st_ino == inode


def test_a_lock_of_another_program_keeps_its_content(workplace, tmp_path):
    file = tmp_path / "data" / "camvid" / ".lock"
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    preparation.prepare("camvid", data_dir=tmp_path / "data", source=workplace.source)
    assert file.read_text() == "mine"


def test_preparing_removes_only_its_own_temporary_folders(workplace, tmp_path):
    folder = tmp_path / "data" / "camvid"
    for name in ("incomplete.labels/a.png", "incomplete.ABC123_1.0.0/notes.md"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
    killed = folder / "incomplete.XYZ789_1.0.0"
    killed.mkdir()
    (killed / "camvid-train.array_record-00000-of-00001").write_text("half")
    mine = digests(folder)
    preparation.prepare("camvid", data_dir=tmp_path / "data", source=workplace.source)
    after = digests(folder)
    assert not killed.exists()
    assert after.items() >= {name: x for name, x in mine.items() if "XYZ789" not in name}.items()


def test_a_preparation_that_fails_leaves_the_folders_that_were_there(workplace, tmp_path):
    source = shutil.copytree(workplace.source, tmp_path / "CamVid")
    (source / "val.txt").unlink()
    for found in ("data/camvid", "data", ""):
        place = tmp_path / (found.replace("/", "_") or "none")
        (place / found).mkdir(parents=True)
        before = digests(place)
        with pytest.raises(ValueError, match=r"val\.txt"):
            preparation.prepare("camvid", data_dir=place / "data", source=source)
        assert digests(place) == before


def test_a_folder_in_the_way_of_a_data_set_is_named(workplace, tmp_path):
    place = tmp_path / "camvid" / "1.0.0"
    place.mkdir(parents=True)
    before = digests(tmp_path)
    with pytest.raises(ValueError, match=r"1\.0\.0 is in the way.*Move it away"):
        preparation.prepare("camvid", data_dir=tmp_path, source=workplace.source)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("name", ["train.json", "train.png"])
def test_a_benchmark_does_not_overwrite_other_numbers(command, tmp_path, name):
    folder = tmp_path / "benchmark"
    folder.mkdir()
    (folder / name).write_text('{"what": "train", "machine": "mine", "records": []}')
    before = digests(tmp_path)
    status, _, errors = command(
        "benchmark", "--config=configs/camvid.py:runlocal", f"--workdir={tmp_path}"
    )
    assert status == 2
    assert f"{name} is not as a benchmark wrote it" in errors
    assert digests(tmp_path) == before


def test_numbers_that_somebody_changed_are_not_written_over(tmp_path):
    path = tmp_path / "numbers.json"
    for _ in range(2):
        results.write_json(path, {"seconds": [1.5], "frames": path})
    assert json.loads(path.read_text())["frames"] == str(path)
    path.write_text(path.read_text().replace("1.5", "1.4"))
    before = path.read_bytes()
    with pytest.raises(UserError, match="is not as a benchmark wrote it"):
        results.write_json(path, {"seconds": [2.5]})
    assert path.read_bytes() == before
    for place in (path, tmp_path / "none" / "numbers.json"):
        with pytest.raises(argparse.ArgumentTypeError):
            results.place(str(place))
    assert results.place(str(tmp_path / "new.json")) == tmp_path / "new.json"


def test_pages_do_not_take_the_place_of_other_files(command, finished, workplace, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    data = shutil.copytree(workplace.data, tmp_path / "data")
    for file in (run / "report" / "index.html", data / "camvid" / "inspection.html"):
        file.write_text("<p>mine</p>")
    before = digests(tmp_path)
    place = f"--config.data.data_dir={data}"
    for arguments in (["eval", f"--workdir={run}", place], ["inspect", *workplace.config(place)]):
        status, _, errors = command(*arguments)
        assert status == 2
        assert "move it away first" in errors
    assert digests(tmp_path) == before


@pytest.mark.slow
def test_pages_that_somebody_changed_are_not_overwritten(command, finished, workplace, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    data = shutil.copytree(workplace.data, tmp_path / "data")
    place = f"--config.data.data_dir={data}"
    commands = (["eval", f"--workdir={run}", place], ["inspect", *workplace.config(place)])
    pages = (run / "report" / "index.html", data / "camvid" / "inspection.html")
    for arguments, page in zip(commands, pages, strict=True):
        for _ in range(2):
            status, _, errors = command(*arguments)
            assert status == 0, errors
        page.write_text(page.read_text() + "<!-- mine -->")
        before = digests(tmp_path)
        status, _, errors = command(*arguments)
        assert status == 2
        assert f"{page.name} was changed since this program wrote it" in errors
        assert "move it away first" in errors
        assert digests(tmp_path) == before


def test_only_own_checkpoints_and_programs_are_cleaned_up(tmp_path):
    checkpoints = tmp_path / "checkpoints"
    for name in ("replaced-best", "best"):
        (checkpoints / name).mkdir(parents=True)
        (checkpoints / name / "mine").write_text("mine")
    for number in range(30):
        (tmp_path / f"part{number}.step").write_text("ISO-10303-21;")
    before = digests(tmp_path)
    Checkpointer(checkpoints, clean_up=True).close()
    _remove_old(tmp_path)
    assert digests(tmp_path) == before


def test_a_folder_is_filled_whole_or_not_at_all(tmp_path):
    def fill(folder, *, fail=False, meanwhile=None):
        with files.all_or_nothing(folder) as temporary:
            (temporary / "model").write_text("model")
            if meanwhile:
                meanwhile.write_text("mine")
            (temporary / "manifest").write_text("manifest")
            if fail:
                raise UserError("the model is wrong")

    new = tmp_path / "a" / "b"
    with pytest.raises(UserError):
        fill(new, fail=True)
    assert not any(tmp_path.iterdir())
    fill(new)
    assert sorted(path.name for path in new.iterdir()) == ["manifest", "model"]

    there = tmp_path / "there"
    there.mkdir()
    inode = there.stat().st_ino
    with pytest.raises(FileExistsError):
        fill(there, meanwhile=there / "manifest")
    assert [path.name for path in there.iterdir()] == ["manifest"]
    (there / "manifest").unlink()
    fill(there)
    assert there.stat().st_ino == inode
    assert (there / "manifest").read_text() == "manifest"


@pytest.mark.parametrize("kind", ["file", "full", "below a file"])
def test_folders_for_results(tmp_path, kind):
    output = tmp_path / "output"
    if kind == "file":
        output.write_text("mine")
    elif kind == "full":
        output.mkdir()
        (output / "mine").write_text(json.dumps("mine"))
    else:
        output.write_text("mine")
        output = output / "below"
    before = digests(tmp_path)
    with pytest.raises(UserError, match=f"--output {output}"):
        files.check_output("--output", output, empty=True)
    assert digests(tmp_path) == before
