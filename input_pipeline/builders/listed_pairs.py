"""Data sets whose source lists pairs of image and label files, as CamVid: train.txt, val.txt, …"""

import collections
from pathlib import Path, PurePosixPath

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.checking import reading
from danet_jax.input_pipeline.checking.pairs import Pair

REQUIRED_SPLITS = ("train", "val")
SPLITS = ("train", "val", "test")


class ListedPairs(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Pairs of files named by SPLIT.txt, an image and its label of ids on each line.

    Names are relative to the source folder. If there is no such file, the last two parts of a name
    count.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "a folder with train.txt and val.txt, whose lines name an image and its label below it"
    )

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        splits: dict[str, list[Pair]] = {}
        problems = []
        for split in SPLITS:
            listing = source / f"{split}.txt"
            if listing.is_file():
                splits[split], listing_problems = _read_listing(listing)
                problems += listing_problems
            elif split in REQUIRED_SPLITS:
                layout = self.MANUAL_DOWNLOAD_INSTRUCTIONS
                problems.append(f"{listing.name}: missing; the source is {layout}")
        return splits, problems


def _read_listing(listing: Path) -> tuple[list[Pair], list[str]]:
    pairs, problems = [], []
    try:
        lines = reading.read_bytes(listing).decode(errors="replace").splitlines()
    except DataError as error:
        return [], [f"{listing.name}: {error}"]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            image, label = (_below(listing.parent, name) for name in line.split())
        except ValueError:
            problems.append(
                f"{listing.name}, line {number}: not the paths of an image and a label, "
                "which may hold no spaces"
            )
            continue
        pairs.append(Pair(image.stem, image, label))
    listed = collections.Counter(pair.id for pair in pairs)
    problems += [
        f"{listing.name}: {id} is listed twice" for id, count in listed.items() if count > 1
    ]
    if not pairs and not problems:
        problems.append(f"{listing.name}: lists no examples")
    return pairs, problems


def _below(source: Path, name: str) -> Path:
    if not PurePosixPath(name).is_absolute() and (source / name).is_file():
        return source / name
    # Published lists hold their authors' paths: /SegNet/CamVid/train/X.png.
    return source.joinpath(*PurePosixPath(name).parts[-2:])
