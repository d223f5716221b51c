"""Files of a prepared data set that were edited are named before TFDS reads them."""

import json
import os
import subprocess
import sys

import pytest

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.storage.prepared_files import check_before_tfds
from tests.launcher import ROOT

TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


EVIL = {"pythonClassName": "evil_module.Thing"}
OURS = "tensorflow_datasets.core.features.FeaturesDict"


def prepared(folder, template):
    split = {"name": "val", "shardLengths": ["8"], "numBytes": "80", "filepathTemplate": template}
    info = {"name": "camvid", "version": "1.0.0", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    features = {
        "pythonClassName": "tensorflow_datasets.core.features.FeaturesDict",
        "featuresDict": {"features": {}},
    }
    (folder / "features.json").write_text(json.dumps(features))
    return folder


def test_templates_of_tfds_are_taken(tmp_path):
    check_before_tfds(prepared(tmp_path, TEMPLATE))


def test_a_pipe_in_place_of_records_is_not_waited_for(tmp_path):
    folder = prepared(tmp_path, TEMPLATE)
    os.mkfifo(folder / "camvid-val.array_record-00000-of-00001")
    with pytest.raises(DataError, match=r"camvid-val.* is a pipe or a device"):
        check_before_tfds(folder)


@pytest.mark.parametrize(
    "template",
    ["", "{DATASET}-{SPLIT}.{FI_X_OF_Y}", "{DATASET", "{}", "{SPLIT.real}", "../{SPLIT}"],
)
def test_other_templates_are_refused(tmp_path, template):
    with pytest.raises(DataError, match=r"dataset_info\.json.*filepathTemplate.*template of file"):
        check_before_tfds(prepared(tmp_path, template))


@pytest.mark.parametrize(
    "change",
    [
        {"type": "evil_module.X", "content": {}},
        {"python_class_name": "evil_module.X"},
        {"pythonClassName": "tensorflow_datasets.scripts.evil.X"},
        {"featuresDict": {"features": {"image": EVIL}}},
        {"featuresDict": {"features": {"image": {"pythonClassName": OURS, "type": "evil.X"}}}},
        {
            "featuresDict": {
                "features": {"a": {"pythonClassName": OURS, "sequence": {"feature": EVIL}}}
            }
        },
        {"featuresDict": {"features": {"a": {"pythonClassName": OURS, "x": [{"y": EVIL}]}}}},
    ],
)
def test_no_class_of_another_module_is_imported_at_any_depth(tmp_path, change):
    folder = prepared(tmp_path, TEMPLATE)
    features = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps(features | change))
    with pytest.raises(DataError, match=r"features\.json.*it takes a class of tensorflow_datasets"):
        check_before_tfds(folder)


def test_a_planted_module_is_not_run(tmp_path):
    """A whole command in a folder that holds the module, where Python looks first."""
    (tmp_path / "evil_module.py").write_text("open('PROOF', 'w').close()")
    place = tmp_path / "data" / "cityscapes" / "semantic_segmentation" / "1.0.0"
    place.mkdir(parents=True)
    prepared(place, TEMPLATE)
    features = json.loads((place / "features.json").read_text())
    planted = features | {"type": "evil_module.X", "content": {}}
    (place / "features.json").write_text(json.dumps(planted))
    arguments = ["check-submission", "--config=cityscapes", "--input=."]
    done = subprocess.run(
        [sys.executable, "-m", "danet_jax", *arguments, "--config.data.data_dir=data"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "features.json" in done.stderr
    assert not (tmp_path / "PROOF").exists()
