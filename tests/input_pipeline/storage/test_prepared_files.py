"""Files of a prepared data set that were edited are named before TFDS reads them."""

import json

import pytest

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.storage.prepared_files import check_before_tfds

TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


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


@pytest.mark.parametrize(
    "template",
    ["", "{DATASET}-{SPLIT}.{FI_X_OF_Y}", "{DATASET", "{}", "{SPLIT.real}", "../{SPLIT}"],
)
def test_other_templates_are_refused(tmp_path, template):
    with pytest.raises(DataError, match=r"dataset_info\.json.*filepathTemplate.*template of file"):
        check_before_tfds(prepared(tmp_path, template))
