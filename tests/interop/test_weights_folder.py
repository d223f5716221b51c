"""`export --format=folder` and `Predictor.from_folder`: the same labels, and nothing but arrays."""

import dataclasses
import os
import pickle
import re
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.interop import weights_files, weights_folder
from danet_jax.runs import folder as run_folder
from tests.interop.folders import change, export_by_command, photo
from tests.runs import digests


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "folder")


def change_arrays(folder, function):
    """Changes the arrays, and the manifest with them."""
    file = folder / "model.safetensors"
    arrays = safetensors.numpy.load_file(file)
    function(arrays)
    file.write_bytes(safetensors.numpy.save(arrays))
    sign(folder)


def sign(folder):
    """Writes the checksums of the files as they are now."""

    def noted(manifest):
        for name in manifest["files"]:
            size = (folder / name).stat().st_size
            digest = digests(folder)[name]
            manifest["files"][name] = {"bytes": size, "sha256": digest}

    change(folder / "manifest.json", noted)


# --- the same answers ----------------------------------------------------------------------------


def test_the_labels_are_the_runs(exported, finished):
    assert {path.name for path in exported.iterdir()} == set(weights_files.FILES)
    run = danet_jax.Predictor.from_workdir(finished)
    found = danet_jax.Predictor.from_folder(exported)
    assert (found.names, found.colors, found.step) == (run.names, run.colors, run.step)
    assert found.settings == run.settings
    jax.tree.map(np.testing.assert_array_equal, found.variables, jax.device_get(run.variables))
    image = photo()
    np.testing.assert_array_equal(found(image), run(image))
    assert len(np.unique(found(image))) > 1


def test_the_runs_settings_and_no_paths_are_kept(workplace, changed_run, tmp_path):
    folder = export_by_command(workplace, changed_run, tmp_path / "folder")
    run = danet_jax.Predictor.from_workdir(changed_run)
    found = danet_jax.Predictor.from_folder(str(folder))
    assert found.settings == run.settings
    assert found.settings.crop_size == 32
    image = photo(70, 90)
    np.testing.assert_array_equal(found(image), run(image))
    assert danet_jax.Predictor.from_folder(folder, flip=False).settings.flip is False
    for file in folder.iterdir():
        for secret in (b"jane", str(workplace.folder).encode()):
            assert secret not in file.read_bytes(), file.name
    config = run_folder.read_config(folder)
    assert config.model.pretrained_backbone == "resnet10.safetensors"


def test_an_earlier_checkpoint_is_exported(workplace, finished, tmp_path):
    folder = export_by_command(workplace, finished, tmp_path / "folder", "--step=20")
    assert danet_jax.Predictor.from_folder(folder).step == 20
    card = (folder / "README.md").read_text()
    assert "checkpoint of step 20 of 24" in card
    assert "No evaluation of this checkpoint was recorded" in card
    assert "It was not evaluated" in card


def test_averaged_weights_are_the_ones_exported(workplace, tmp_path):
    workdir = tmp_path / "run"
    steps = ("--config.train.steps=2", "--config.train.eval_every=2")
    workplace.train(workdir, "--config.train.ema_decay=0.5", *steps)
    folder = export_by_command(workplace, workdir, tmp_path / "folder")
    run = danet_jax.Predictor.from_workdir(workdir)
    found = danet_jax.Predictor.from_folder(folder)
    jax.tree.map(np.testing.assert_array_equal, found.variables, jax.device_get(run.variables))
    card = (folder / "README.md").read_text()
    assert "the moving average of its weights (decay 0.5)" in card
    # Notes of this version say what an evaluation ran with.
    assert re.search(r"Evaluation 1 ran with python [\d.]+, jax [\d.]+", card)


def test_a_folder_with_files_is_left_alone(workplace, finished, tmp_path):
    (tmp_path / "mine").write_text("mine")
    before = digests(tmp_path)
    outcome = workplace.run(
        "export", f"--workdir={finished}", f"--output={tmp_path}", "--format=folder"
    )
    assert outcome.status == 2
    assert f"--output {tmp_path} is there already" in outcome.stderr
    assert digests(tmp_path) == before


def test_what_does_not_come_back_is_not_written(finished, tmp_path, monkeypatch):
    predictor = danet_jax.Predictor.from_workdir(finished)
    config = run_folder.read_config(finished)
    read = weights_folder.read

    def torn(folder):
        found = read(folder)
        changed = jax.tree.map(lambda array: array + 1, found.variables)
        return dataclasses.replace(found, variables=changed)

    monkeypatch.setattr(weights_folder, "read", torn)
    names, colors = run_folder.read_classes(finished)
    with pytest.raises(UserError, match="came back otherwise"):
        weights_folder.write(
            predictor,
            tmp_path / "folder",
            config=config,
            names=names,
            colors=colors,
            card="",
            source={},
        )
    assert not any(tmp_path.iterdir())


# --- what is refused -----------------------------------------------------------------------------


def remove(name):
    return lambda folder: (folder / name).unlink()


def flip_a_bit(folder):
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def cut(folder):
    os.truncate(folder / "model.safetensors", 1000)


def pickled(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps(os.system))
    sign(folder)


def only_a_pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def name_a_pickle(folder):
    entry = {"bytes": 0, "sha256": 64 * "0"}
    change(
        folder / "manifest.json", lambda m: m["files"].__setitem__("../../weights.pkl", dict(entry))
    )


def a_stranger(folder):
    for path in folder.iterdir():
        path.unlink()
    (folder / "weights.pth").write_bytes(pickle.dumps(1))


def other_format(folder):
    change(folder / "manifest.json", lambda manifest: manifest.update(format="onnx"))


def later_version(folder):
    change(folder / "manifest.json", lambda manifest: manifest.update(format_version=2))


def other_width(folder):
    change(folder / "config.json", lambda config: config["model"].update(width=8))
    sign(folder)


def with_infinity(folder):
    change_arrays(folder, lambda arrays: next(iter(arrays.values())).fill(np.inf))


def in_half_precision(folder):
    def halve(arrays):
        name = next(iter(arrays))
        arrays[name] = arrays[name].astype(np.float16)

    change_arrays(folder, halve)


def with_another_array(folder):
    change_arrays(folder, lambda arrays: arrays.update(extra=np.zeros(3, np.float32)))


def without_an_array(folder):
    change_arrays(folder, lambda arrays: arrays.pop(next(iter(arrays))))


def without_a_class(folder):
    def drop(classes):
        del classes["names"][0], classes["colors"][0]

    change(folder / "classes.json", drop)
    sign(folder)


REFUSED = {
    remove("manifest.json"): "is no folder of weights: it has no manifest.json",
    remove("model.safetensors"): "model.safetensors is missing",
    remove("classes.json"): "classes.json is missing",
    flip_a_bit: "is not what was exported: its SHA-256",
    cut: "has 1,000 bytes, and manifest.json beside it says",
    pickled: "is torn, or no safetensors file",
    only_a_pickle: "pytorch_model.bin can hold code, so nothing of it is loaded",
    name_a_pickle: "names ../../weights.pkl; a folder's files are model.safetensors",
    a_stranger: "weights.pth can hold code",
    other_format: "holds an export of the format 'onnx'",
    later_version: "is of version 2 of the format",
    other_width: "does not fit the network of config.json beside it",
    with_infinity: "not finite: ",
    in_half_precision: "is float16",
    with_another_array: "left over: extra",
    without_an_array: "missing: ",
    without_a_class: "holds 10 names, but config.model.num_classes",
}


@pytest.mark.parametrize(
    ("spoil", "says"), REFUSED.items(), ids=[str(index) for index in range(len(REFUSED))]
)
def test_what_is_not_as_it_was_exported_is_refused(spoil, says, folder):
    spoil(folder)
    with pytest.raises(UserError) as caught:
        danet_jax.Predictor.from_folder(folder)
    assert says in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_pickle_beside_the_weights_is_not_opened(folder):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(folder / "sprung"),)

    for name in ("weights.pkl", "pytorch_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    danet_jax.Predictor.from_folder(folder)
    assert not (folder / "sprung").exists()


def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="there is no such folder"):
        danet_jax.Predictor.from_folder(tmp_path / "nothing")
    with pytest.raises(UserError, match="is a file, not a folder"):
        danet_jax.Predictor.from_folder(tmp_path / "file")
    with pytest.raises(UserError, match=r"s3://bucket/x: .*Mount"):
        danet_jax.Predictor.from_folder("s3://bucket/x")
