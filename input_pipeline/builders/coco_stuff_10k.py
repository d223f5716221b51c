"""COCO-Stuff 10k in version 1.1 as distributed, https://github.com/nightrome/cocostuff10k."""

import collections
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import coco_stuff, matlab
from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.checking import reading
from danet_jax.input_pipeline.checking.pairs import LabelError, Pair
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels

UNLABELLED = 0
ID_MAP = {UNLABELLED: IGNORE_LABEL, **{id: i for i, id in enumerate(coco_stuff.IDS)}}
# LISTS maps a split to its list. What the authors call test is what everyone reports as val.
LISTS = {"train": "train", "val": "test"}
# Files of version 1.1 name its 182 ids, those of version 1.0 its 172, the first of which is
# "unlabeled": see dataset/code/conversion/convertAnnotationsToVersion11.m.
NAMES_IN_VERSION_1_0 = 172
VERSION_1_0 = (
    "version 1.0 numbers the classes differently (1 unlabelled, 2 to 81 things, 82 to 172 stuff)"
)


class CocoStuff10k(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """9000 / 1000 photographs of COCO in 171 classes; unlabelled pixels become 255."""

    name = "coco_stuff_10k"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "the folder of cocostuff-10k-v1.1.zip, with images/*.jpg, annotations/*.mat, "
        "imageLists/train.txt and imageLists/test.txt"
    )
    labels = Labels(tuple(coco_stuff.NAMES.values()), coco_stuff.COLORS, coco_stuff.IDS)
    id_map = ID_MAP
    counts = {"train": 9000, "val": 1000}  # noqa: RUF012
    advice = f"give the annotations of cocostuff-10k-v1.1.zip as they are; {VERSION_1_0}"
    grey_images = True

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        problems: list[str] = []
        splits: dict[str, list[Pair]] = {}
        for split, name in LISTS.items():
            listing = source / "imageLists" / f"{name}.txt"
            if listing.is_file():
                splits[split], listing_problems = _read_listing(source, listing)
                problems += listing_problems
            else:
                layout = self.MANUAL_DOWNLOAD_INSTRUCTIONS
                problems.append(f"imageLists/{listing.name}: missing; the source is {layout}")
        return splits, problems

    def read_label(self, pair: Pair) -> np.ndarray:
        assert pair.label is not None
        content = matlab.read(pair.label)
        if np.size(content.get("names", ())) == NAMES_IN_VERSION_1_0:
            raise LabelError(f"{VERSION_1_0}; give the annotations of cocostuff-10k-v1.1.zip")
        return matlab.find_ids(content, "S")


def _read_listing(source: Path, listing: Path) -> tuple[list[Pair], list[str]]:
    file = listing.relative_to(source)
    try:
        names = reading.read_bytes(listing).decode(errors="replace").split()
    except DataError as error:
        return [], [f"{file}: {error}"]
    problems = [
        f"{file}: {name} is listed twice"
        for name, count in collections.Counter(names).items()
        if count > 1
    ]
    if not names:
        problems.append(f"{file}: lists no examples")
    pairs = [
        Pair(name, source / "images" / f"{name}.jpg", source / "annotations" / f"{name}.mat")
        for name in names
    ]
    return pairs, problems
