"""Training, evaluation and prediction from Python do what the commands do."""

import json
import subprocess
import sys
import threading

import ml_collections
import numpy as np
import pytest
from PIL import Image

import danet_jax
from danet_jax.base.errors import UserError
from danet_jax.configs import common
from danet_jax.runs import config as configuration
from danet_jax.runs import folder as run_folder
from danet_jax.training.interruption import interruptible
from tests.launcher import ROOT
from tests.runs import digests, succeed

SCRIPT = """
import json, sys, threading
import ml_collections
import danet_jax
from danet_jax.runs.config import load_config

arguments, workdir, image = sys.argv[1:]
config = load_config(*json.loads(arguments))
config.train.steps = 4
# Left open, as an experiment's file leaves them.
for section, field in (("model", "multi_grid"), ("eval", "base_size"), ("eval", "short_side")):
    with config.unlocked():
        config[section][field] = None
frozen = ml_collections.FrozenConfigDict(config)
thread = threading.Thread(target=danet_jax.train, args=(frozen, workdir))
thread.start()
thread.join()
evaluation = danet_jax.evaluate(workdir)
(labels,) = danet_jax.predict(workdir, [image])
print(json.dumps([evaluation.scores.mean_iou, labels.tolist()]))
"""


@pytest.mark.end_to_end
def test_three_lines_are_the_commands(workplace, tmp_path):
    image = next((workplace.source / "val").glob("*.png"))
    run, arguments = tmp_path / "run", workplace.config()
    spec = arguments[0].removeprefix("--config=")
    outcome = subprocess.run(
        [
            *(sys.executable, "-c", SCRIPT),
            *(json.dumps([spec, arguments[1:]]), str(run), str(image)),
        ],
        cwd=ROOT,
        env=workplace.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    mean_iou, labels = json.loads(outcome.stdout.splitlines()[-1])
    config = run_folder.read_config(run)
    # The open fields are as `main.py train` sets them: crops of 32 are small, images of 48.
    assert config.model.multi_grid == ()
    assert (config.eval.short_side, config.eval.base_size) == (48, 192)
    assert (run / "checkpoints" / "4").is_dir()

    found = workplace.run("eval", f"--workdir={run}")
    assert f"mean IoU {mean_iou:.4f}" in found.stdout
    output = tmp_path / "labelled"
    arguments = ("predict", f"--workdir={run}", f"--input={image}", f"--output={output}")
    succeed(workplace.run(*arguments))
    (written,) = output.rglob("*_label.png")
    with Image.open(written) as file:
        np.testing.assert_array_equal(np.asarray(file), labels)


@pytest.mark.parametrize("images", [np.zeros((4, 4, 3), np.uint8), "photo.png", ROOT])
def test_one_image_is_no_list(finished, images):
    with pytest.raises(UserError, match=r"images is one .*give a list"):
        danet_jax.predict(finished, images)


@pytest.mark.parametrize("config", [None, ml_collections.ConfigDict({"seed": 1})])
def test_what_is_no_experiment_is_refused(tmp_path, config):
    with pytest.raises(UserError, match="config"):
        danet_jax.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_callers_config_stays_as_it_is():
    config = common.get_config()
    assert configuration.completed(config).model.multi_grid == (4, 8, 16)
    assert config.model.multi_grid is None


def test_a_thread_trains_without_handlers():
    interrupted = []

    def run():
        with interruptible() as interruption:
            interrupted.append(bool(interruption))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert interrupted == [False]


def test_a_folder_that_only_looks_set_aside_is_no_checkpoint(finished, tmp_path):
    empty = tmp_path / "checkpoints" / f"{run_folder.REPLACED}5"
    (empty / "state").mkdir(parents=True)
    before = digests(tmp_path)
    assert not run_folder.has_checkpoint(tmp_path)
    assert digests(tmp_path) == before
    whole = max((finished / "checkpoints").iterdir(), key=lambda place: int(place.name))
    (tmp_path / "checkpoints" / f"{run_folder.REPLACED}6").symlink_to(whole)
    # A link may lead anywhere: training brings none back.
    assert not run_folder.has_checkpoint(tmp_path)


def test_an_unknown_platform_is_refused():
    with pytest.raises(UserError, match=r"platform is 'cuda'.*'cpu', 'gpu', 'tpu'"):
        danet_jax.create_model(configuration.completed(common.get_config()).model, platform="cuda")
