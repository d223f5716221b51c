"""A run of the first release (0.1.0) is read, evaluated and trained on, for ever.

tests/golden/first_release holds a run of 12 steps on the tests' CamVid, as it was when step 8 was
saved, and what that release made of it: labels, scores, and where its training ended.
"""

import contextlib
import hashlib
import json
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image

import danet_jax
from danet_jax.runs import folder as run_folder
from danet_jax.runs.checkpoints import Checkpointer
from danet_jax.runtime import parallel
from tests.launcher import ROOT
from tests.runs import succeed

GOLDEN = ROOT / "tests" / "golden" / "first_release"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture
def run(tmp_path):
    with tarfile.open(GOLDEN / "run.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def arrays(run, step):
    """The arrays of a checkpoint by their paths."""
    with contextlib.closing(Checkpointer(run / run_folder.CHECKPOINTS)) as checkpointer:
        saved, _ = checkpointer.restore(step, parallel.replicated(parallel.create_mesh()))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(saved)
    }


def test_its_arrays_are_read_bit_for_bit(run):
    read = {
        name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays(run, 8).items()
    }
    together = hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()
    assert together == EXPECTED["sha256_at_8"]


def test_it_labels_as_it_did(run, workplace):
    predictor = danet_jax.Predictor.from_workdir(run)
    assert predictor.step == 8
    assert predictor.settings.base_size is None
    with np.load(GOLDEN / "labels.npz") as labels:
        for name, expected in labels.items():
            image = np.asarray(Image.open(workplace.source / "val" / f"{name}.png"))
            np.testing.assert_array_equal(predictor(image), expected)


@pytest.mark.end_to_end
def test_it_is_trained_on_and_evaluated(run, workplace):
    data = f"--config.data.data_dir={workplace.data}"
    scored = succeed(workplace.run("eval", f"--workdir={run}", data))
    assert f"mean IoU {EXPECTED['mean_iou_at_8']:.4f} on 4 images" in scored.stdout

    trained = succeed(workplace.run("train", f"--workdir={run}", data))
    assert "goes on from step 8 of 12" in trained.stderr
    assert f"mean IoU {EXPECTED['mean_iou_at_12']:.4f} on 4 images" in trained.stdout
    # The programs of two releases round differently.
    for name, array in arrays(run, 12).items():
        norm = np.linalg.norm(array.astype(np.float64))
        np.testing.assert_allclose(norm, EXPECTED["norm_at_12"][name], rtol=1e-3, err_msg=name)
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = {str(record["step"]): record["loss"] for record in records if "loss" in record}
    assert losses.keys() == EXPECTED["losses"].keys()
    for step, loss in EXPECTED["losses"].items():
        np.testing.assert_allclose(losses[step], loss, rtol=1e-3)
