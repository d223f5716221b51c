"""A workdir is taken for a run only where it surely is one, and a run keeps what it holds."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import danet_jax
from danet_jax import input_pipeline
from danet_jax.base.errors import UserError
from danet_jax.runs import folder as run_folder
from danet_jax.runs import opening
from tests.runs import STEPS, digests

LABELS = type("Labels", (), {"names": ("a", "b", "c", "d"), "colors": ((0, 0, 0),) * 4})()


def begin(workdir, config, *, fresh=False):
    with opening.opened(config, workdir, fresh=fresh, labels=LABELS):
        pass


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def config(finished):
    return run_folder.read_config(finished)


def segmenter(folder):
    """Another program's training: its config.json has sections of our names."""
    content = {"name": "segmenter", "data": "/data", "model": "unet", "train": {"lr": 0.1}}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "classes.json").write_text('{"classes": ["cat", "dog"]}')
    (folder / "metrics.jsonl").write_text('{"step": 100}\n')


def sections(folder):
    content = {"data": {"name": "x"}, "model": {"backbone": "unet"}, "train": {"batch_size": 4}}
    (folder / "config.json").write_text(json.dumps(content))


def numbered_checkpoints(folder):
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "checkpoints" / "1000").mkdir(parents=True)
    (folder / "checkpoints" / "1000" / "model.bin").write_bytes(b"weights")


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("write", [segmenter, sections, numbered_checkpoints])
def test_another_programs_training_is_left_alone(write, fresh, config, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    write(folder)
    before = digests(tmp_path)
    with pytest.raises(UserError, match="does not look like a run"):
        begin(folder, config, fresh=fresh)
    assert digests(tmp_path) == before


def test_a_damaged_config_beside_our_checkpoints_is_a_runs(run, config, tmp_path):
    (run / "config.json").write_text("{")
    begin(run, config, fresh=True)
    (aside,) = tmp_path.glob("run.*")
    assert (aside / "config.json").read_text() == "{"
    assert run_folder.read_config(run) == config


@pytest.mark.parametrize("seed", [0, 7])
def test_a_run_whose_checkpoints_were_moved_keeps_its_records(seed, run, config, tmp_path):
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    config.seed = seed
    before = digests(tmp_path)
    with pytest.raises(UserError, match=r"checkpoints folder is gone: bring it back, or give --fr"):
        begin(run, config)
    assert digests(tmp_path) == before


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("evaluated", [True, False])
def test_a_run_whose_checkpoints_are_gone_keeps_its_records(evaluated, seed, run, config):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    if not evaluated:
        shutil.rmtree(run / "report")
        every = config.train.checkpoint_every
        steps = range(1, 2 * every + 2)
        lines = [json.dumps({"step": step, "loss": 1.5}) + "\n" for step in steps]
        (run / "metrics.jsonl").write_text("".join(lines))
    config.seed = seed
    before = digests(run)
    with pytest.raises(UserError, match=r"had checkpoints, but there is none.*bring the newest"):
        begin(run, config)
    assert digests(run) == before
    begin(run, config, fresh=True)


def test_a_link_to_checkpoints_that_are_not_there_is_named(run, config, tmp_path):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").symlink_to(tmp_path / "not mounted")
    before = digests(run)
    with pytest.raises(UserError, match=r"checkpoints is a link to a place that is not there"):
        begin(run, config)
    assert digests(run) == before


def test_a_run_that_saved_nothing_may_be_corrected(run, config):
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").mkdir()
    shutil.rmtree(run / "report")
    # It was stopped before its first evaluation.
    (run / "metrics.jsonl").write_text('{"step": 2, "loss": 1.5}\n')
    config.seed = 7
    begin(run, config)
    assert run_folder.read_config(run).seed == 7


def edited(run, section, **fields):
    file = run / "config.json"
    config = json.loads(file.read_text())
    config[section] |= fields
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("model", "output_stride", 16),
        ("model", "align_corners", False),
        ("model", "channel_energy", "plain"),
        ("model", "dtype", "bfloat16"),
        ("data", "name", "folder"),
    ],
)
def test_a_checkpoint_of_another_network_labels_nothing(section, field, value, run):
    edited(run, section, **{field: value})
    with pytest.raises(
        UserError, match=rf"config.{section}.{field}: .* in it, .*{value!r} in conf"
    ):
        danet_jax.Predictor.from_workdir(run)


def test_what_does_not_change_the_network_may_be_edited(run):
    edited(run, "model", energy_memory=64, pretrained_backbone="elsewhere.pth")
    edited(run, "eval", scales=[0.5, 1.0])
    assert danet_jax.Predictor.from_workdir(run).settings.scales == (0.5, 1.0)


@pytest.mark.end_to_end
def test_a_run_does_not_go_on_with_other_images_of_the_same_names(
    workplace, finished, run, tmp_path
):
    """As many examples, the same classes, and nothing else is the same."""
    shutil.rmtree(run / "checkpoints" / str(STEPS))
    source = shutil.copytree(workplace.source, tmp_path / "CamVid")
    for file in source.glob("*/*.png"):
        if not file.parent.name.endswith("annot"):
            image = np.asarray(Image.open(file))
            Image.fromarray(255 - image // 2).save(file)
    input_pipeline.prepare("camvid", data_dir=tmp_path / "data", source=source)
    before = digests(run / "checkpoints")
    outcome = workplace.run(
        "train", f"--workdir={run}", f"--config.data.data_dir={tmp_path / 'data'}"
    )
    assert outcome.status == 2
    assert "Traceback" not in outcome.stderr
    message = " ".join(outcome.stderr.split())
    assert "was trained on other data: images, labels or their order differ" in message
    assert "--config.data.data_dir" in message
    assert digests(run / "checkpoints") == before
