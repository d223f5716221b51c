"""PyTorch weights that are not imported: one clear error, and no workdir."""

import sys

import numpy as np
import pytest
import safetensors.numpy

from tests.interop import state_dicts
from tests.interop.command import import_torch, other_model


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
