"""PASCAL Context, https://cs.stanford.edu/~roozbeh/pascal-context, in its 59 or 60 classes."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import matlab, voc_devkit
from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.builders.pascal_detail import Annotations
from danet_jax.input_pipeline.checking.pairs import Pair
from danet_jax.input_pipeline.images.files import list_files
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels, standard_color

# NAMES maps those of the 459 ids that are evaluated to their names; ids are in alphabetical order.
NAMES = {
    2: "aeroplane",
    9: "bag",
    18: "bed",
    19: "bedclothes",
    22: "bench",
    23: "bicycle",
    25: "bird",
    31: "boat",
    33: "book",
    34: "bottle",
    44: "building",
    45: "bus",
    46: "cabinet",
    59: "car",
    65: "cat",
    68: "ceiling",
    72: "chair",
    80: "cloth",
    85: "computer",
    98: "cow",
    104: "cup",
    105: "curtain",
    113: "dog",
    115: "door",
    144: "fence",
    158: "floor",
    159: "flower",
    162: "food",
    187: "grass",
    189: "ground",
    207: "horse",
    220: "keyboard",
    232: "light",
    258: "motorbike",
    259: "mountain",
    260: "mouse",
    284: "person",
    295: "plate",
    296: "platform",
    308: "pottedplant",
    324: "road",
    326: "rock",
    347: "sheep",
    349: "shelves",
    354: "sidewalk",
    355: "sign",
    360: "sky",
    366: "snow",
    368: "sofa",
    397: "table",
    415: "track",
    416: "train",
    420: "tree",
    424: "truck",
    427: "tvmonitor",
    440: "wall",
    445: "water",
    454: "window",
    458: "wood",
}
CATEGORIES = 459
# This id means no category, and in the variant of 60 classes also any category beyond the 59.
BACKGROUND = 0
ALPHABETICAL = tuple(NAMES)
# The order is that of VOC for its classes, and nearly alphabetical for the others: see eval_orders
# of zhanghang1989/detail-api, and CLASSES of PascalContextDataset in open-mmlab/mmsegmentation at
# 0999c55.
VOC_FIRST = (
    *(2, 23, 25, 31, 34, 45, 59, 65, 72, 98, 397, 113, 207, 258, 284, 308, 347, 368, 416, 427),
    *(9, 18, 22, 33, 44, 46, 68, 80, 85, 104, 115, 144, 158, 159, 162, 187, 189, 220, 232, 259),
    *(260, 105, 296, 355, 295, 324, 326, 349, 354, 360, 366, 19, 415, 420, 424, 440, 445, 454, 458),
)
# A class has the same colour in all variants, and a class of VOC has its colour there.
COLORS = {
    BACKGROUND: standard_color(0),
    **{id: standard_color(index) for index, id in enumerate(VOC_FIRST, start=1)},
}
# VARIANTS maps a variant to its ids, in the order of train ids.
VARIANTS = {
    "59_alphabetical": ALPHABETICAL,
    "60_alphabetical": (BACKGROUND, *ALPHABETICAL),
    "59_voc_first": VOC_FIRST,
    "60_voc_first": (BACKGROUND, *VOC_FIRST),
}
SPLITS = ("train", "val")
# All images of train and val of VOC 2010 are labelled, so its own lists, in Main, are the splits.
# The lists that others put beside them, in SegmentationContext, have 3 images less.
LISTS = ("Main", "SegmentationContext")
DETAIL_FILE = "trainval_merged.json"


class PascalContext(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """4998 / 5105 photographs of VOC 2010, all of whose pixels are labelled.

    59 of the 459 categories are classes. The variants order them alphabetically, or with VOC's 20
    first. All other pixels are ignored in 59 classes, and are class 0, background, in 60. PASCAL in
    Detail has the same labels in another form, for 4996 / 5104 photographs.
    """

    name = "pascal_context"
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, description=f"{len(ids)} classes")
        for name, ids in VARIANTS.items()
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "VOCdevkit/VOC2010 of VOCtrainval_03-May-2010.tar, with JPEGImages/*.jpg and "
        "ImageSets/Main/{train,val}.txt, and in it or beside it the labels: trainval/*.mat of "
        f"PASCAL Context's trainval.tar.gz, or else {DETAIL_FILE} of PASCAL in Detail"
    )
    counts = {"train": 4998, "val": 5105}  # noqa: RUF012
    advice = f"give labels in the {CATEGORIES} categories of the distribution, not converted ones"

    def _info(self) -> tfds.core.DatasetInfo:
        ids = VARIANTS[self.builder_config.name]
        self.labels = Labels(
            tuple(NAMES.get(id, "background") for id in ids), tuple(COLORS[id] for id in ids), ids
        )
        others = 0 if BACKGROUND in ids else IGNORE_LABEL
        self.id_map = {
            **dict.fromkeys(range(CATEGORIES + 1), others),
            **{id: index for index, id in enumerate(ids)},
        }
        self._annotations: Annotations | None = None
        return super()._info()

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        layout = self.MANUAL_DOWNLOAD_INSTRUCTIONS
        root = voc_devkit.find_root(source, "VOC2010")
        if root is None:
            return {}, [f"JPEGImages: missing; the source is {layout}"]
        parents = (source, root, root.parent)
        matlab_folders = (parent / "trainval" for parent in parents)
        matlab_folder = next((path for path in matlab_folders if list_files(path, ".mat")), None)
        if matlab_folder is not None:
            return self._find_listed(root, matlab_folder)
        detail_files = (parent / DETAIL_FILE for parent in parents)
        detail_file = next((file for file in detail_files if file.is_file()), None)
        if detail_file is not None:
            return self._find_annotated(root, detail_file)
        return {}, [f"trainval/*.mat and {DETAIL_FILE}: missing; the source is {layout}"]

    def _find_listed(self, root: Path, labels: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        splits: dict[str, list[Pair]] = {}
        problems: list[str] = []
        for split in SPLITS:
            listings = [root / "ImageSets" / name / f"{split}.txt" for name in LISTS]
            listing = next((file for file in listings if file.is_file()), None)
            if listing is None:
                problems.append(
                    f"{listings[0].relative_to(root)}: missing; the source is "
                    f"{self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
                )
                continue
            names, listing_problems = voc_devkit.read_names(listing)
            problems += listing_problems
            splits[split] = [
                Pair(name, root / "JPEGImages" / f"{name}.jpg", labels / f"{name}.mat")
                for name in names
            ]
        return splits, problems

    def _find_annotated(self, root: Path, file: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        try:
            self._annotations = Annotations(file)
        except DataError as error:
            return {}, [f"{file.name}: {error}"]
        phases = self._annotations.phases
        splits = {
            split: [
                Pair(name, root / "JPEGImages" / f"{name}.jpg", file, part=name)
                for name in phases[split]
            ]
            for split in SPLITS
        }
        return splits, [
            f"{file.name}: no images of {split}" for split in SPLITS if not phases[split]
        ]

    def read_label(self, pair: Pair) -> np.ndarray:
        assert pair.label is not None
        if self._annotations is not None:
            return self._annotations.label(pair.part)
        return matlab.find_ids(matlab.read(pair.label), "LabelMap")
