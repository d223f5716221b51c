"""From test images without labels to the archive for the server, by the command line."""

import zipfile

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import danet_jax
from danet_jax.input_pipeline.builders.cityscapes import LABEL_IDS
from danet_jax.runs import config as configuration
from tests.input_pipeline.cityscapes import NAMES, write_cityscapes
from tests.interop import state_dicts
from tests.runs import succeed

pytestmark = pytest.mark.end_to_end

FIELDS = (
    "--config.model.backbone=resnet10",
    "--config.model.width=4",
    "--config.model.multi_grid=()",
    "--config.eval.preset=",
    "--config.eval.base_size=512",
)


@pytest.fixture(scope="module")
def run(workplace, tmp_path_factory):
    """A workdir of a small network for Cityscapes, and the arguments that name its data."""
    folder = tmp_path_factory.mktemp("cityscapes")
    source = write_cityscapes(folder / "source", test_size=(1024, 2048))
    config = ("--config=configs/cityscapes.py", *FIELDS, f"--config.data.data_dir={folder}/data")
    succeed(workplace.run("prepare", *config, f"--source={source}"))
    model = danet_jax.create_model(configuration.load_config(config[0][9:], FIELDS).model)
    file = folder / "weights.safetensors"
    safetensors.numpy.save_file(state_dicts.original(model), file)
    workdir = folder / "run"
    succeed(workplace.run("import-torch", *config, f"--checkpoint={file}", f"--workdir={workdir}"))
    return workdir, config


def test_labels_for_the_server(run, workplace, tmp_path):
    workdir, config = run
    folder = tmp_path / "submission"
    outcome = succeed(
        workplace.run("eval", f"--workdir={workdir}", "--split=test", f"--submission={folder}")
    )
    assert outcome.stdout == (
        f"the labels of 2 images, checked and packed: {folder / 'cityscapes.zip'}\n"
    )
    assert not (workdir / "report").exists()
    with zipfile.ZipFile(folder / "cityscapes.zip") as archive:
        assert archive.namelist() == [f"{name}_labelIds.png" for name in NAMES["test"]]
    written = np.asarray(Image.open(folder / f"{NAMES['test'][0]}_labelIds.png"))
    assert written.shape == (1024, 2048)
    image = workdir.parent / f"source/leftImg8bit/test/berlin/{NAMES['test'][0]}_leftImg8bit.png"
    output = tmp_path / "output"
    predict = ("predict", f"--workdir={workdir}", f"--input={image}", f"--output={output}")
    succeed(workplace.run(*predict))
    classes = np.asarray(Image.open(output / f"{image.stem}_label.png"))
    assert len(np.unique(classes)) > 1
    np.testing.assert_array_equal(written, np.array(LABEL_IDS)[classes])

    checked = workplace.run("check-submission", *config, f"--input={folder}")
    assert "holds what the server takes: the labels of 2 images" in succeed(checked).stdout
    (folder / f"{NAMES['test'][0]}_labelIds.png").unlink()
    checked = workplace.run("check-submission", *config, f"--input={folder}")
    assert checked.status == 2
    assert f"{NAMES['test'][0]}_labelIds.png: missing" in checked.stderr


def test_no_score_is_invented(run, workplace):
    outcome = workplace.run("eval", f"--workdir={run[0]}", "--split=test")
    assert outcome.status == 2
    assert outcome.stdout == ""
    assert "The split 'test' of cityscapes has no labels. `eval --submission=DIR`" in outcome.stderr


def test_nothing_is_trained_without_labels(run, workplace, tmp_path):
    workdir = tmp_path / "run"
    outcome = workplace.run(
        "train", *run[1], "--config.data.train_split=test", f"--workdir={workdir}"
    )
    assert outcome.status == 2
    assert "has no labels" in outcome.stderr
    assert not workdir.exists()


def test_images_that_the_server_does_not_take_are_refused_before_the_work(run, workplace, tmp_path):
    folder = tmp_path / "submission"
    outcome = workplace.run("eval", f"--workdir={run[0]}", f"--submission={folder}")
    assert outcome.status == 2
    assert "takes labels of 2048x1024, but the split's images are 48x24" in outcome.stderr
    assert not folder.exists()
