"""A data set whose source is lists of image and label files, as CamVid's: train.txt, val.txt, …"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from input_pipeline.builders import common

REQUIRED_SPLITS = ("train", "val")
SPLITS = ("train", "val", "test")


class ListedPairs(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Pairs of files named by SPLIT.txt, an image and its label of ids on each line.

    The names are below the source folder; of one that is not there the last two parts count. A
    subclass gives `name`,
    `VERSION`, `code_path` and `id_map`, raw label id → class or 255.
    """

    id_map: Mapping[int, int]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "a folder with train.txt and val.txt, whose lines name an image and its label below it"
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return common.info(self)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        source = Path(dl_manager.manual_dir)
        splits = find_pairs(
            source, self.id_map, name=self.name, layout=self.MANUAL_DOWNLOAD_INSTRUCTIONS
        )
        return {split: self._generate_examples(pairs) for split, pairs in splits.items()}

    def _generate_examples(self, pairs):
        return common.examples(pairs, self.id_map)


def find_pairs(
    source: Path, id_map: Mapping[int, int], *, name: str, layout: str
) -> dict[str, list[common.Pair]]:
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
            problems.append(f"{listing.name}: missing; the source is {layout}")
    pairs = [pair for found in splits.values() for pair in found]
    problems += common.check_pairs(pairs, id_map, source)
    common.raise_if_any(problems, name, source)
    return splits


def _read_listing(listing: Path) -> tuple[list[common.Pair], list[str]]:
    pairs, problems = [], []
    for number, line in enumerate(listing.read_text(errors="replace").splitlines(), start=1):
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
        pairs.append(common.Pair(image.stem, image, label))
    problems += [
        f"{listing.name}: {id} is listed twice" for id in common.repeated([p.id for p in pairs])
    ]
    if not pairs and not problems:
        problems.append(f"{listing.name}: lists no examples")
    return pairs, problems


def _below(source: Path, name: str) -> Path:
    if not PurePosixPath(name).is_absolute() and (source / name).is_file():
        return source / name
    # Published lists hold their authors' paths: /SegNet/CamVid/train/X.png.
    return source.joinpath(*PurePosixPath(name).parts[-2:])
