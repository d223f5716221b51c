import numpy as np
import pytest
from PIL import Image

from danet_jax import input_pipeline
from danet_jax.input_pipeline.builders import coco_stuff, coco_stuff_10k, coco_stuff_164k
from tests.input_pipeline.coco_stuff import (
    GREY,
    IDS,
    NEVER_USED,
    prepare,
    write_coco_stuff_10k,
    write_coco_stuff_164k,
)


def test_ids():
    assert coco_stuff.NEVER_USED == NEVER_USED
    assert coco_stuff.IDS == IDS
    assert len(IDS) == 171
    assert {0: 255, **{id: index for index, id in enumerate(IDS)}} == coco_stuff_10k.ID_MAP
    assert {255: 255, **{id - 1: i for i, id in enumerate(IDS)}} == coco_stuff_164k.ID_MAP
    unused = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
    assert coco_stuff_164k.ID_MAP.keys() == {*range(182), 255} - set(unused)
    # Some of mmsegmentation's tables, tools/dataset_converters/coco_stuff10k.py less one,
    # coco_stuff164k.py.
    for raw, train in ((1, 0), (11, 10), (13, 11), (31, 26), (72, 62), (90, 79), (92, 80)):
        assert coco_stuff_10k.ID_MAP[raw] == coco_stuff_164k.ID_MAP[raw - 1] == train
    assert coco_stuff_10k.ID_MAP[182] == coco_stuff_164k.ID_MAP[181] == 170


def test_names_are_shared():
    ten, all_of_coco = (
        input_pipeline.labels_of(name, data_dir="data")
        for name in ("coco_stuff_10k", "coco_stuff_164k")
    )
    assert ten.num_classes == 171
    assert ten.names == all_of_coco.names
    assert ten.colors == all_of_coco.colors
    assert ten.raw_ids == IDS
    assert all_of_coco.raw_ids == tuple(id - 1 for id in IDS)
    for id, name in (
        (1, "person"), (13, "stop sign"), (27, "backpack"), (90, "toothbrush"), (92, "banner"),
        (112, "door-stuff"), (149, "road"), (157, "sky-other"), (169, "tree"), (182, "wood"),
    ):  # fmt: skip
        assert ten.names[ten.raw_ids.index(id)] == name
        assert all_of_coco.names[all_of_coco.raw_ids.index(id - 1)] == name


def test_colors_are_distinct():
    assert coco_stuff.COLORS[:3] == ((128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert coco_stuff.COLORS[170] == (192, 160, 64)
    colors = np.array(coco_stuff.COLORS)
    apart = np.abs(colors[:, None] - colors[None]).max(-1)
    assert apart[~np.eye(171, dtype=bool)].min() == 32


@pytest.mark.parametrize(
    ("name", "write", "images", "id"),
    [
        ("coco_stuff_10k", write_coco_stuff_10k, "images", GREY[0]),
        ("coco_stuff_164k", write_coco_stuff_164k, "images/train2017", GREY[1]),
    ],
    ids=["10k", "164k"],
)
def test_grey_photographs_become_rgb(tmp_path, name, write, images, id):
    source = write(tmp_path / "source")
    prepare(name, source, tmp_path)
    example = input_pipeline.open_split(name, "train", data_dir=tmp_path / "data")[2]
    assert example["id"] == id
    grey = np.asarray(Image.open(source / images / f"{id}.jpg"))
    assert grey.ndim == 2
    np.testing.assert_array_equal(example["image"], np.stack([grey] * 3, -1))
