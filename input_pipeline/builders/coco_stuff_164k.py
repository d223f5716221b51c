"""COCO-Stuff on all of COCO 2017, https://github.com/nightrome/cocostuff: its stuffthingmaps."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from danet_jax.input_pipeline.builders import coco_stuff, paired_folders
from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.checking.pairs import Pair
from danet_jax.input_pipeline.images.files import list_files
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels

# The label maps hold each id minus one.
MAP_IDS = tuple(id - 1 for id in coco_stuff.IDS)
VOID = 255
ID_MAP = {VOID: IGNORE_LABEL, **{id: i for i, id in enumerate(MAP_IDS)}}
# FOLDERS maps a split to the name of its folders.
FOLDERS = {"train": "train2017", "val": "val2017"}
# These folders may contain them: first where the authors unpack the archives, then where others do.
IMAGES = ("images", ".")
LABELS = (
    "annotations",
    "stuffthingmaps_trainval2017",
    "annotations/stuffthingmaps_trainval2017",
    "stuffthingmaps",
    ".",
)


class CocoStuff164k(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """118287 / 5000 photographs of COCO in 171 classes; unlabelled pixels are 255."""

    name = "coco_stuff_164k"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "a folder with train2017.zip and val2017.zip of COCO in images/ and "
        "stuffthingmaps_trainval2017.zip in annotations/, so that there are "
        "images/{train2017,val2017}/*.jpg and annotations/{train2017,val2017}/*.png; or all three "
        "unpacked beside each other"
    )
    labels = Labels(tuple(coco_stuff.NAMES.values()), coco_stuff.COLORS, MAP_IDS)
    id_map = ID_MAP
    counts = {"train": 118287, "val": 5000}  # noqa: RUF012
    advice = (
        "give the maps of stuffthingmaps_trainval2017.zip as they are, which hold COCO's ids less "
        "one; *_labelTrainIds.png and other converted ones do not fit"
    )
    grey_images = True

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        problems: list[str] = []
        splits: dict[str, list[Pair]] = {}
        layout = self.MANUAL_DOWNLOAD_INSTRUCTIONS
        for split, folder in FOLDERS.items():
            images = _first(source, IMAGES, folder, ".jpg")
            labels = _first(source, LABELS, folder, ".png")
            if images is None:
                expected = (source / parents[0] / folder for parents in (IMAGES, LABELS))
                problems.append(paired_folders.explain(source, *expected, layout=layout))
            elif labels is None:
                problems.append(
                    f"{folder}: no labels (*.png) for the images; the source is {layout}"
                )
            else:
                splits[split] = paired_folders.find_pairs(images / folder, labels / folder)
        return splits, problems


def _first(source: Path, parents: Sequence[str], folder: str, ending: str) -> Path | None:
    folders = (source / parent for parent in parents)
    return next(
        (candidate for candidate in folders if list_files(candidate / folder, ending)), None
    )
