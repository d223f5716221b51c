import numpy as np
import pytest

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders.pascal_detail import Annotations
from tests.input_pipeline.pascal_context import (
    NAMES,
    SIZES,
    annotate,
    make_detail,
    write_detail,
    write_images,
)


@pytest.fixture
def root(tmp_path):
    """VOC 2010 with the JSON file."""
    root = write_images(tmp_path / "VOCdevkit" / "VOC2010")
    write_detail(root / "trainval_merged.json")
    return root


def test_the_last_mask_covers_the_others(root, tmp_path):
    content = make_detail()
    below, above = np.ones((24, 36), bool), np.zeros((24, 36), bool)
    above[3:9, 5:30] = True
    masks = content["annos_segmentation"]
    masks[:] = [annotate("2008_000002", 440, below), annotate("2008_000002", 72, above)]
    write_detail(root / "trainval_merged.json", content)
    annotations = Annotations(root / "trainval_merged.json")
    assert annotations.phases["train"] == list(NAMES["train"])
    assert annotations.phases["test"] == ["2008_000001"]
    expected = np.where(above, 72, 440)
    np.testing.assert_array_equal(annotations.label("2008_000002"), expected)
    assert not annotations.label("2008_000003").any()
    assert annotations.label("2008_000003").shape == SIZES["2008_000003"]


def damage_torn_json(file, content):
    file.write_text(file.read_text()[:-100])


def damage_other_json(file, content):
    write_detail(file, {"images": [], "annotations": []})


def damage_list_json(file, content):
    write_detail(file, [1, 2])


def damage_no_val(file, content):
    content["images"] = [image for image in content["images"] if image["phase"] != "val"]
    content["annos_segmentation"] = []
    write_detail(file, content)


def damage_mask(file, content):
    content["annos_segmentation"][0]["segmentation"]["counts"] = "23X"
    write_detail(file, content)


def damage_polygon(file, content):
    content["annos_segmentation"][0]["segmentation"] = [[1.0, 2.0, 3.0, 4.0]]
    write_detail(file, content)


def damage_list_counts(file, content):
    content["annos_segmentation"][0]["segmentation"]["counts"] = [5, 10]
    write_detail(file, content)


def damage_mask_size(file, content):
    content["annos_segmentation"][0]["segmentation"]["size"] = [36, 24]
    write_detail(file, content)


def damage_category(file, content):
    content["annos_segmentation"][0]["category_id"] = -1
    write_detail(file, content)


def damage_unknown_category(file, content):
    content["annos_segmentation"][0]["category_id"] = 500
    write_detail(file, content)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_torn_json, "trainval_merged.json: does not decode ("),
        (damage_other_json, "json: holds no images with annos_segmentation (KeyError('annos_"),
        (damage_list_json, "trainval_merged.json: holds no images with annos_segmentation"),
        (damage_no_val, "trainval_merged.json: no images of val"),
        (damage_mask, "json (2008_000002): a mask that is no string of run lengths"),
        (damage_polygon, "json (2008_000002): a mask without counts and size"),
        (damage_list_counts, "json (2008_000002): a mask that is no string of run lengths"),
        (damage_mask_size, "a mask of height and width (36, 24), but the image's (24, 36)"),
        (damage_category, "json (2008_000002): a mask of category -1, which is no id"),
        (damage_unknown_category, "json (2008_000002): label ids 500; known are 0-459"),
    ],
)
def test_damage_is_found(damage, says, root, tmp_path):
    damage(root / "trainval_merged.json", make_detail())
    with pytest.raises(DataError) as caught:
        input_pipeline.prepare(
            "pascal_context/59_alphabetical", data_dir=tmp_path / "data", source=root
        )
    assert says in str(caught.value)
    assert "1 problem in" in str(caught.value)
