"""`import-torch` and `config.model.pretrained_backbone`, from files to runs."""

import contextlib
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors.numpy

import danet_jax
from danet_jax.interop import torch_weights
from danet_jax.models.danet import BACKBONE
from danet_jax.runs import folder as run_folder
from danet_jax.runs.checkpoints import Checkpointer
from danet_jax.runtime import parallel
from danet_jax.training.setup import set_up
from tests.interop import state_dicts
from tests.interop.command import import_torch, other_model
from tests.runs import digests, succeed
from tests.training.tiny import restore_state

# Steps that move nothing but the statistics.
STILL = ("--config.train.steps=2", "--config.optimizer.learning_rate=0.0")


def restore(workdir, step):
    config = run_folder.read_config(workdir)
    with contextlib.closing(Checkpointer(workdir / "checkpoints")) as checkpointer:
        state, _ = restore_state(
            checkpointer, set_up(config, parallel.create_mesh(), 1).abstract_state(), step=step
        )
    return jax.device_get(state)


def test_a_workdir_that_can_be_used_at_once(workplace, model, arrays, tmp_path):
    file, run = tmp_path / "theirs.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(arrays, file)
    data = f"--config.data.data_dir={workplace.data}"
    small = ("--config.data.crop_size=(32,32)", "--config.data.base_size=48")
    batch = ("--config.train.batch_size=2", "--config.data.num_threads=2")
    outcome = succeed(workplace.run(*import_torch(file, run, data, *STILL, *small, *batch)))
    assert f"{len(arrays)} arrays under mmsegmentation's names are in {run}" in outcome.stdout

    expected = jax.device_get(danet_jax.from_torch(arrays, model))
    state = restore(run, 0)
    jax.tree.map(np.testing.assert_array_equal, state.variables, expected)
    source = json.loads((run / "weights.json").read_text())
    assert source["file"] == str(file)
    assert len(source["sha256"]) == 64

    outcome = succeed(workplace.run("eval", f"--workdir={run}"))
    assert "mean IoU" in outcome.stdout
    page = (run / "report" / "index.html").read_text()
    assert f"network from theirs.safetensors (SHA-256 {source['sha256'][:12]}…)" in page
    image = workplace.source / "val" / "val_0.png"
    output = tmp_path / "output"
    succeed(workplace.run("predict", f"--workdir={run}", f"--input={image}", f"--output={output}"))
    assert (output / "val_0_label.png").is_file()

    outcome = succeed(workplace.run("train", f"--workdir={run}"))
    assert "goes on from step 0 of 2" in outcome.stderr
    trained = restore(run, 2)
    jax.tree.map(np.testing.assert_array_equal, trained.params, expected["params"])
    statistics = jax.tree.leaves(trained.batch_stats)
    for moved, imported in zip(statistics, jax.tree.leaves(expected["batch_stats"]), strict=True):
        assert not np.array_equal(moved, imported)


def test_fine_tuning_starts_at_the_imported_features(workplace, model, light_compilation, tmp_path):
    arrays = state_dicts.torchvision(model)
    file, run = tmp_path / "resnet.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(arrays, file)
    outcome = workplace.train(
        run,
        "--config.model.multi_grid=()",
        f"--config.model.pretrained_backbone={file}",
        *STILL,
    )
    assert f"the backbone starts from {len(arrays) - 3} arrays of {file}" in " ".join(
        outcome.stderr.split()
    )
    config = run_folder.read_config(run)
    weights = torch_weights.backbone_from_torch(arrays, model)
    start = set_up(config, parallel.create_mesh(), 2).create_state(weights.variables)
    for collection in ("params", "batch_stats"):
        jax.tree.map(
            np.testing.assert_array_equal,
            getattr(start, collection)["backbone"],
            weights.variables[collection]["backbone"],
        )

    image = np.random.default_rng(0).integers(0, 256, (1, 64, 48, 3), dtype=np.uint8)
    image = jnp.asarray(image)
    imported = danet_jax.from_torch(arrays, model)
    state = restore(run, 2)
    statistics = state.batch_stats | imported["batch_stats"]
    start = {"params": state.params, "batch_stats": statistics}
    expected = {"params": state.params | imported["params"], "batch_stats": statistics}
    np.testing.assert_array_equal(layer4(model, start, image), layer4(model, expected, image))
    report = (run / "report" / "index.html").read_text()
    assert "backbone from resnet.safetensors (SHA-256 " in report


def layer4(model, variables, image):
    """The output of the backbone's last layer, as the head gets it."""
    apply = functools.partial(
        model.apply,
        train=False,
        capture_intermediates=lambda module, _: module.name == BACKBONE,
        mutable=["intermediates"],
    )
    _, found = jax.jit(apply)(jax.tree.map(jnp.asarray, variables), image)
    ((_, output),) = found["intermediates"][BACKBONE]["__call__"]
    return np.asarray(output)


def test_bfloat16_files(command, model, arrays, tmp_path):
    file, run = tmp_path / "narrow.safetensors", tmp_path / "run"
    narrow = {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays.items()}
    safetensors.numpy.save_file(narrow, file)
    status, said, _ = command(*import_torch(file, run))
    assert status == 0
    assert (
        "since weights do not determine them: multi_grid=(), output_stride=8, align_corners=True"
        in said
    )
    expected = danet_jax.from_torch({n: a.astype(np.float32) for n, a in narrow.items()}, model)
    jax.tree.map(np.testing.assert_array_equal, restore(run, 0).params, expected["params"])


def test_another_number_of_classes(command, config, tmp_path):
    model = other_model(config, num_classes=19)
    file, run = tmp_path / "cityscapes.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(state_dicts.original(model), file)
    status, said, _ = command(*import_torch(file, run))
    assert status == 0
    assert "initialised randomly, as the number of classes differs; train them:" in said
    assert said.count("_classifier.conv.") == 6
    assert restore(run, 0).params["head"]["fused_classifier"]["conv"]["bias"].shape == (11,)


def test_partial_weights_only_when_asked_for(command, arrays, tmp_path):
    del arrays["decode_head.cam.gamma.scale"]
    file, run = tmp_path / "part.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(arrays, file)
    status, _, errors = command(*import_torch(file, run))
    assert status == 2
    assert "missing: decode_head.cam.gamma.scale" in errors
    assert not run.exists()
    status, said, _ = command(*import_torch(file, run, "--allow-partial"))
    assert status == 0
    assert "missing: decode_head.cam.gamma.scale (1,)" in said


def test_a_run_is_not_overwritten(command, arrays, finished, tmp_path):
    file = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(arrays, file)
    run = shutil.copytree(finished, tmp_path / "run")
    before = digests(run)
    status, _, errors = command(*import_torch(file, run))
    assert status == 2
    assert f"{run} holds a run already" in errors
    assert digests(run) == before
    status, _, errors = command(*import_torch(file, run, "--fresh"))
    assert status == 0
    assert "the old run is now in" in errors


def test_an_import_that_fails_late_leaves_nothing(command, arrays, monkeypatch, tmp_path):
    file, run = tmp_path / "theirs.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(arrays, file)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("danet_jax.tasks.import_torch.save_start", full)
    status, _, errors = command(*import_torch(file, run))
    assert status == 2
    assert "No space left on device" in errors
    assert not run.exists()


def test_an_import_that_was_killed_is_not_trained_from_random_weights(
    command, workplace, arrays, tmp_path
):
    file, run = tmp_path / "theirs.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(arrays, file)
    data = (f"--config.data.data_dir={workplace.data}", "--config.train.batch_size=8")
    assert command(*import_torch(file, run, *data))[0] == 0
    # As Orbax names what it has not finished.
    (run / "checkpoints" / "0").rename(run / "checkpoints" / "0.orbax-checkpoint-tmp")
    status, _, errors = command("train", f"--workdir={run}")
    assert status == 2
    assert f"The import of {file} into {run} was cut short" in errors
    assert command(*import_torch(file, run, *data))[0] == 0
    assert restore(run, 0).params.keys() == {"backbone", "head"}
