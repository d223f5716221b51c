"""PASCAL VOC 2012, http://host.robots.ox.ac.uk/pascal/VOC/voc2012, with the labels of SBD."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from danet_jax.input_pipeline.builders import matlab, voc_devkit
from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.checking.pairs import Pair
from danet_jax.input_pipeline.images.files import list_files
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels, standard_color

NAMES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
# Borders of objects, and what is hard to tell, have this id.
VOID = 255
ID_MAP = {**{index: index for index in range(len(NAMES))}, VOID: IGNORE_LABEL}
LISTED_SPLITS = ("train", "val", "test")
# SBD may be unpacked to any of these, beside VOC or inside it: the first is what its archive makes,
# the others are what tutorials recommend.
SBD_FOLDERS = ("benchmark_RELEASE/dataset", "SBD/dataset", "VOCaug/dataset", "dataset")


class PascalVoc(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """1464 / 1449 / 1456 photographs in 20 classes of objects and background.

    Only the server has the labels of test. SBD, http://home.bharathh.info/pubs/codes/SBD, labels
    11355 photographs, some of which are in VOC's train and val. Split sbd is the other 9118, so
    that train+sbd is what papers call trainaug: 10582 photographs, none of val.
    """

    name = "pascal_voc"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "VOCdevkit/VOC2012 of VOCtrainval_11-May-2012.tar, with JPEGImages/*.jpg, "
        "SegmentationClass/*.png and ImageSets/Segmentation/{train,val}.txt; for split test with "
        "VOC2012test.tar unpacked into it; for split sbd with benchmark_RELEASE/dataset of SBD's "
        "benchmark.tgz in it or beside it, which holds img/*.jpg, cls/*.mat, train.txt and val.txt"
    )
    labels = Labels(NAMES, tuple(standard_color(index) for index in range(len(NAMES))))
    id_map = ID_MAP
    counts = {"train": 1464, "val": 1449, "test": 1456, "sbd": 9118}  # noqa: RUF012
    advice = (
        "give the palette images of SegmentationClass as they are, whose indices are 0 to 20 and "
        "255 for borders"
    )

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        layout = self.MANUAL_DOWNLOAD_INSTRUCTIONS
        root = voc_devkit.find_root(source, "VOC2012")
        if root is None:
            return {}, [f"JPEGImages: missing; the source is {layout}"]
        splits: dict[str, list[Pair]] = {}
        problems: list[str] = []
        for split in LISTED_SPLITS:
            listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
            if listing.is_file():
                names, listing_problems = voc_devkit.read_names(listing)
                problems += listing_problems
                pairs = [_pair(root, split, name) for name in names]
                # The archive of train and val may bring the list of test without its images.
                if split != "test" or any(pair.image.is_file() for pair in pairs):
                    splits[split] = pairs
            elif split != "test":
                problems.append(
                    f"ImageSets/Segmentation/{split}.txt: missing; the source is {layout}"
                )
        # If a list is missing or faulty, it is unknown which images sbd has to leave out.
        if not problems:
            listed = {pair.id for pairs in splits.values() for pair in pairs}
            pairs, problems = _find_sbd(source, root)
            sbd = [pair for pair in pairs if pair.id not in listed]
            splits |= {"sbd": sbd} if sbd else {}
        return splits, problems

    def read_label(self, pair: Pair) -> np.ndarray:
        if pair.label is not None and pair.label.suffix == ".mat":
            return matlab.find_ids(matlab.read(pair.label), "GTcls.Segmentation")
        return super().read_label(pair)


def _pair(root: Path, split: str, name: str) -> Pair:
    label = None if split == "test" else root / "SegmentationClass" / f"{name}.png"
    return Pair(name, root / "JPEGImages" / f"{name}.jpg", label)


def _find_sbd(source: Path, root: Path) -> tuple[list[Pair], list[str]]:
    """Returns all pairs of SBD, including those of VOC."""
    for parent in (source, root, root.parent, source.parent):
        for name in SBD_FOLDERS:
            if (parent / name / "cls").is_dir():
                return _read_sbd(parent / name)
    # Some people hand on the labels of SBD as images beside those of VOC.
    converted = list_files(root / "SegmentationClassAug", ".png")
    images = root / "JPEGImages"
    return [Pair(label.stem, images / f"{label.stem}.jpg", label) for label in converted], []


def _read_sbd(folder: Path) -> tuple[list[Pair], list[str]]:
    names: list[str] = []
    problems = []
    for split in ("train", "val"):
        listing = folder / f"{split}.txt"
        if listing.is_file():
            listed, listing_problems = voc_devkit.read_names(listing)
            names += listed
            problems += listing_problems
        else:
            problems.append(f"{'/'.join(listing.parts[-3:])}: missing, a list of SBD")
    pairs = [
        Pair(name, folder / "img" / f"{name}.jpg", folder / "cls" / f"{name}.mat")
        for name in dict.fromkeys(names)
    ]
    return pairs, problems
