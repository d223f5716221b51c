"""Cityscapes as distributed, https://www.cityscapes-dataset.com: finely and coarsely labelled."""

from pathlib import Path

import tensorflow_datasets as tfds

from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.checking.pairs import Pair
from danet_jax.input_pipeline.images.files import list_files
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels

NAMES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
COLORS = (
    (128, 64, 128),
    (244, 35, 232),
    (70, 70, 70),
    (102, 102, 156),
    (190, 153, 153),
    (153, 153, 153),
    (250, 170, 30),
    (220, 220, 0),
    (107, 142, 35),
    (152, 251, 152),
    (70, 130, 180),
    (220, 20, 60),
    (255, 0, 0),
    (0, 0, 142),
    (0, 0, 70),
    (0, 60, 100),
    (0, 80, 100),
    (0, 0, 230),
    (119, 11, 32),
)
# The labelId of each class, in the order of train ids.
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
ID_MAP = dict.fromkeys(range(34), IGNORE_LABEL) | {id: i for i, id in enumerate(LABEL_IDS)}
# LABELS maps a split to the kind of its labels, or to None where only the server has them.
LABELS = {"train": "gtFine", "val": "gtFine", "test": None, "train_extra": "gtCoarse"}
REQUIRED_SPLITS = ("train", "val")
_IMAGE = "_leftImg8bit.png"


class Cityscapes(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """2975 / 500 / 1525 finely labelled frames of 2048x1024 from cars in 50 cities.

    Only the server has the labels of test: its files say "ignored" everywhere, and are left out.
    With gtCoarse there is a further split, train_extra, of 19998 coarsely labelled frames;
    train+train_extra trains on both.
    """

    name = "cityscapes"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "the folder of leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, with leftImg8bit/"
        "{train,val,test}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/*_gtFine_labelIds.png;"
        " with leftImg8bit/train_extra and gtCoarse/train_extra for the coarse labels, too"
    )
    labels = Labels(NAMES, COLORS, LABEL_IDS)
    id_map = ID_MAP
    counts = {  # noqa: RUF012
        "train": 2975,
        "val": 500,
        "test": 1525,
        "train_extra": 19998,
    }
    advice = "give the distribution's own *_labelIds.png files"

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        problems: list[str] = []
        splits: dict[str, list[Pair]] = {}
        for split, kind in LABELS.items():
            cities = list_files(source / "leftImg8bit" / split, "")
            images = [image for city in cities for image in list_files(city, _IMAGE)]
            if images:
                splits[split] = [_pair(source, split, kind, image) for image in images]
            elif split in REQUIRED_SPLITS:
                layout = self.MANUAL_DOWNLOAD_INSTRUCTIONS
                problems.append(f"leftImg8bit/{split}: no images; the source is {layout}")
        return splits, problems


def _pair(source: Path, split: str, kind: str | None, image: Path) -> Pair:
    name = image.name.removesuffix(_IMAGE)
    if kind is None:
        return Pair(name, image, None)
    return Pair(
        name, image, source / kind / split / image.parent.name / f"{name}_{kind}_labelIds.png"
    )
