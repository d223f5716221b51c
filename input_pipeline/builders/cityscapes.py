"""Cityscapes as distributed, https://www.cityscapes-dataset.com: leftImg8bit and gtFine."""

from pathlib import Path

import tensorflow_datasets as tfds

from input_pipeline.builders import common
from input_pipeline.labels import IGNORE_LABEL

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
_IMAGE, _LABEL = "_leftImg8bit.png", "_gtFine_labelIds.png"


class Cityscapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """2975 / 500 / 1525 finely labelled frames of 2048x1024 from cars in 50 cities.

    The labels of test are the server's own: its files say "ignored" everywhere, and are left out.
    """

    name = "cityscapes"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "the folder of leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, with leftImg8bit/"
        "{train,val,test}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/*_gtFine_labelIds.png"
    )
    # TFDS 4.9.10 looks for these by way of importlib_resources, which nothing installs.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return common.info(self)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        source = Path(dl_manager.manual_dir)
        splits = find_pairs(source, layout=self.MANUAL_DOWNLOAD_INSTRUCTIONS)
        return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

    def _generate_examples(self, pairs):
        return common.examples(pairs, ID_MAP)


def find_pairs(source: Path, *, layout: str) -> dict[str, list[common.Pair]]:
    """The pairs of train and val, and the images of test where they are, with every file checked.

    Raises:
      DataError: with all that is missing or unusable under `source`.
    """
    problems, splits = [], {}
    for split in ("train", "val", "test"):
        images = sorted((source / "leftImg8bit" / split).glob(f"*/*{_IMAGE}"))
        if images:
            splits[split] = [_pair(source, split, image) for image in images]
        elif split != "test":
            problems.append(f"leftImg8bit/{split}: no images; the source is {layout}")
    pairs = [pair for found in splits.values() for pair in found]
    problems += common.check_pairs(pairs, ID_MAP, source)
    common.raise_if_any(problems, "cityscapes", source)
    return splits


def _pair(source: Path, split: str, image: Path) -> common.Pair:
    name = image.name.removesuffix(_IMAGE)
    label = source / "gtFine" / split / image.parent.name / f"{name}{_LABEL}"
    return common.Pair(name, image, None if split == "test" else label)
