"""A user's own images: a folder of them, one of labels, and a list of classes."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from input_pipeline.builders import folder_classes, folder_files, verification
from input_pipeline.builders.files import FilesBuilder
from input_pipeline.builders.verification import Pair
from input_pipeline.image_files import EXTENSIONS

SPLITS = ("train", "val", "test")
# What systems leave in folders, besides hidden files.
_CLUTTER = ("thumbs.db", "desktop.ini")
_SAMPLES = 5
_HOW_TO_SPLIT = (
    "Scores come from images that were not trained on: move about every fifth image of "
    "images/train to images/val, and its label from labels/train to labels/val; keep what shows "
    "the same scene together"
)


class Folder(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Images and labels of the same names, in folders; the classes are the source's own.

    Images are what prediction reads: PNG, JPEG, TIFF; what else than 8-bit RGB or grey they hold
    is converted in the same way. Labels hold ids, or the classes' colours.
    """

    name = "folder"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "a folder with images/train and images/val, labels of the same names in labels/train and "
        "labels/val, and classes.txt, with a name on each line, or classes.json; for images "
        "without labels also images/test"
    )
    # folder/NAME for each that a person has.
    takes_any_variant = True
    labels = None
    advice = (
        'say in classes.json which ids stand for each class, {"name": "road", "ids": [1]}, and '
        'which for none, "ignore": [0, 255]'
    )
    grey_images = True

    def read_classes(self, source: Path) -> None:
        self._classes = folder_classes.read_classes(source)
        self.labels, self.id_map = self._classes.labels, self._classes.id_map
        self.reading = [[*color, id] for color, id in self._classes.color_ids.items()]

    def read_label(self, pair: Pair) -> np.ndarray:
        assert pair.label is not None
        return folder_files.read_label(pair.label, self._classes)

    def read_image(self, pair: Pair) -> verification.Picture:
        return folder_files.read_image(pair)

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        splits: dict[str, list[Pair]] = {}
        problems: list[str] = []
        for split in SPLITS:
            pairs, found = _find_split(source, split)
            problems += found
            if pairs:
                splits[split] = pairs
            elif split != "test" and not found:
                problems.append(self._explain(source, split))
        return splits, problems

    def _explain(self, source: Path, split: str) -> str:
        """A sentence on a split that has no images."""
        images = source / "images"
        if not images.is_dir():
            return f"images/{split}: missing; the source is {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        if split == "val" and (images / "train").is_dir():
            return f"images/val: no images. {_HOW_TO_SPLIT}."
        others = ", ".join(sorted(path.name for path in images.iterdir())[:5])
        return f"images/{split}: no images; in images are only: {others or 'no files'}"


def _find_split(source: Path, split: str) -> tuple[list[Pair], list[str]]:
    images, problems = _find_files(source, f"images/{split}")
    if not images or (split == "test" and not (source / "labels" / split).is_dir()):
        return [Pair(name, image, None) for name, image in images.items()], problems
    labels, found = _find_files(source, f"labels/{split}")
    problems += found
    if not labels:
        return [], [*problems, f"labels/{split}: no labels for the images of images/{split}"]
    suffix = _common_suffix(images, labels)
    pairs = []
    for name, image in images.items():
        label = labels.pop(name + suffix, None)
        if label is None:
            problems.append(
                f"{image.relative_to(source)}: no label labels/{split}/{name}{suffix}.*"
            )
        else:
            pairs.append(Pair(name, image, label))
    problems += [
        f"{label.relative_to(source)}: no image images/{split}/{name.removesuffix(suffix)}.*"
        for name, label in labels.items()
    ]
    return pairs, problems


def _find_files(source: Path, folder: str) -> tuple[dict[str, Path], list[str]]:
    """Image files by their path below a folder, without its extension; and what is wrong."""
    found: dict[str, Path] = {}
    problems = []
    for file in sorted((source / folder).rglob("*")):
        below = file.relative_to(source / folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if hidden or not file.is_file() or file.name.lower() in _CLUTTER:
            continue
        name = below.with_suffix("").as_posix()
        if file.suffix.lower() not in EXTENSIONS:
            known = ", ".join(EXTENSIONS)
            problems.append(f"{folder}/{below}: no image by its name; known are {known}")
        elif name in found:
            problems.append(f"{folder}/{below}: {found[name].name} has the same name")
        else:
            found[name] = file
    return found, problems


def _common_suffix(images: Mapping[str, Path], labels: Iterable[str]) -> str:
    """What labels have behind the names of their images, in most cases: "", "_mask", …"""
    labels = set(labels)
    suffixes = {""}
    # Some are enough, of which the labels of most are there.
    for name in list(images)[:_SAMPLES]:
        suffixes |= {label.removeprefix(name) for label in labels if label.startswith(name)}
    hits = {suffix: sum(name + suffix in labels for name in images) for suffix in suffixes}
    return max(suffixes, key=lambda suffix: (hits[suffix], -len(suffix), suffix))
