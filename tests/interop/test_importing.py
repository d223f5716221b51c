"""`import-torch` and `config.model.pretrained_backbone`, from files to runs."""

import contextlib
import functools
import json
import shutil
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import danet_jax
from danet_jax import configuration, experiment, parallel
from danet_jax.commands import command_line
from danet_jax.interop import torch_weights
from danet_jax.models.danet import BACKBONE
from danet_jax.training.checkpoint import Checkpointer
from danet_jax.training.train import abstract_state, create_state
from tests.interop import state_dicts
from tests.runs import digests, succeed

FIELDS = (
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.model.multi_grid=()",
)
# Steps that move nothing but the statistics.
STILL = ("--config.train.steps=2", "--config.optimizer.learning_rate=0.0")


@pytest.fixture(scope="module")
def config():
    return configuration.load_config("configs/camvid.py:runlocal", FIELDS)


@pytest.fixture(scope="module")
def model(config):
    return danet_jax.create_model(config.model)


def other_model(config, **fields):
    changed = config.model.copy_and_resolve_references()
    changed.update(fields)
    return danet_jax.create_model(changed)


@pytest.fixture
def arrays(model):
    return state_dicts.mmsegmentation(model)


@pytest.fixture
def command(monkeypatch, capfd, light_compilation):
    """Runs a command line in this process; returns its status, output and errors."""
    monkeypatch.setattr(command_line, "_set_up_jax", lambda: None)
    monkeypatch.setattr("sys.unraisablehook", None)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments):
        capfd.readouterr()
        status = command_line.run([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return run


def import_torch(file, workdir, *more):
    return (
        "import-torch",
        "--config=configs/camvid.py:runlocal",
        *FIELDS,
        f"--checkpoint={file}",
        f"--workdir={workdir}",
        *more,
    )


def restore(workdir, step):
    config = experiment.read_config(workdir)
    with contextlib.closing(Checkpointer(workdir / "checkpoints")) as checkpointer:
        state, _ = checkpointer.restore(
            abstract_state(config, parallel.create_mesh(), 1), step=step
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
    config = experiment.read_config(run)
    weights = torch_weights.backbone_from_torch(arrays, model)
    start = create_state(config, parallel.create_mesh(), 2, weights.variables)
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
    assert "since no array tells: multi_grid=(), output_stride=8, align_corners=True" in said
    expected = danet_jax.from_torch({n: a.astype(np.float32) for n, a in narrow.items()}, model)
    jax.tree.map(np.testing.assert_array_equal, restore(run, 0).params, expected["params"])


def test_another_number_of_classes(command, config, tmp_path):
    model = other_model(config, num_classes=19)
    file, run = tmp_path / "cityscapes.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(state_dicts.original(model), file)
    status, said, _ = command(*import_torch(file, run))
    assert status == 0
    assert "of another number of classes, so random until trained:" in said
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

    monkeypatch.setattr("danet_jax.training.train.save_start", full)
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


# --- spoiled files -------------------------------------------------------------------------------


def damaged(spoil):
    """A file of the right arrays, spoiled by spoil(bytes) → bytes."""

    def write(path, arrays):
        safetensors.numpy.save_file(arrays, path)
        path.write_bytes(spoil(path.read_bytes()))

    return write


def changed(change):
    """A file of the arrays after change(arrays), which returns nothing."""

    def write(path, arrays):
        change(arrays)
        safetensors.numpy.save_file(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()}, path
        )

    return write


def replace(name, function):
    return changed(lambda arrays: arrays.update({name: function(arrays[name])}))


CONV, NORM = "backbone.layer1.0.conv1.weight", "decode_head.cam_in_conv.bn"
SPOILED = {
    "a folder": (lambda path, _: path.mkdir(), "is a folder"),
    "nothing": (lambda path, _: None, "there is no such file"),
    "empty": (lambda path, _: path.touch(), "is empty"),
    "text": (lambda path, _: path.write_text("weights\n" * 99), "is torn, or no safetensors file"),
    "cut in half": (damaged(lambda data: data[: len(data) // 2]), "is torn"),
    "cut in its header": (damaged(lambda data: data[:100]), "is torn"),
    "a wrong header": (damaged(lambda data: data.replace(b"F32", b"X32", 1)), "is torn"),
    "no array": (changed(dict.clear), "Its names are: none"),
    "a missing array": (changed(lambda a: a.pop(CONV)), f"missing: {CONV} (4, 4, 3, 3)"),
    "a further array": (
        changed(lambda a: a.update(extra=np.zeros(3, np.float32))),
        "left over: extra",
    ),
    "another shape": (replace(CONV, lambda a: a[:2]), f"{CONV} is (2, 4, 3, 3)"),
    "transposed": (
        replace(CONV, lambda a: a.transpose(2, 3, 1, 0)),
        f"another shape: {CONV} is (3, 3, 4, 4)",
    ),
    "not a number": (replace(CONV, lambda a: a * np.nan), f"not finite: {CONV}"),
    "infinity": (
        replace(f"{NORM}.running_mean", lambda a: a / 0 * np.inf),
        f"not finite: {NORM}.running_mean",
    ),
    "a negative variance": (
        replace(f"{NORM}.running_var", np.negative),
        f"a negative variance: {NORM}.running_var",
    ),
    "whole numbers": (
        replace(CONV, lambda a: a.astype(np.int32)),
        f"no numbers: {CONV}",
    ),
    "foreign names": (
        changed(lambda a: [a.update({f"x.{n[:9]}.{n}": a.pop(n)}) for n in list(a)]),
        "no array under a name of the original DANet",
    ),
}


@pytest.mark.filterwarnings("ignore:(divide|invalid)")
@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_checkpoint_is_one_clear_error(name, command, arrays, tmp_path):
    write, says = SPOILED[name]
    file, run = tmp_path / "spoiled.safetensors", tmp_path / "run"
    write(file, arrays)
    status, said, errors = command(*import_torch(file, run))
    assert status == 2
    assert said == ""
    assert errors.startswith("error: ")
    assert errors.count("error: ") == 1
    assert says in errors
    assert not run.exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"backbone": "resnet50"}, "of a model with config.model.backbone=resnet50"),
        ({"stem": "deep"}, "of a model with config.model.stem=deep"),
    ],
)
def test_another_models_checkpoint(fields, says, command, config, tmp_path):
    other = other_model(config, **fields)
    file, run = tmp_path / "other.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(state_dicts.original(other), file)
    status, _, errors = command(*import_torch(file, run))
    assert status == 2
    assert says in errors
    assert not run.exists()


def test_without_pytorch_its_files_are_refused(command, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    file, run = tmp_path / "danet.pth", tmp_path / "run"
    file.write_bytes(b"some bytes")
    status, _, errors = command(*import_torch(file, run))
    assert status == 2
    assert "needs PyTorch: `pip install torch`" in errors
    assert not run.exists()


def test_a_backbone_that_does_not_fit_is_refused_before_the_run(
    command, workplace, model, tmp_path
):
    arrays = state_dicts.torchvision(model)
    del arrays["layer3.0.bn1.weight"]
    file, run = tmp_path / "resnet.safetensors", tmp_path / "run"
    safetensors.numpy.save_file(arrays, file)
    fields = (
        f"--config.model.pretrained_backbone={file}",
        "--config.model.multi_grid=()",
        # This process has eight devices.
        "--config.train.batch_size=8",
    )
    status, _, errors = command("train", f"--workdir={run}", *workplace.config(*fields))
    assert status == 2
    assert "missing: layer3.0.bn1.weight (16,)" in errors
    assert not run.exists()
