"""A user's own images: a folder of them, one of labels, and a list of classes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from danet_jax.input_pipeline.builders import (
    folder_classes,
    folder_files,
    folder_names,
    folder_palettes,
)
from danet_jax.input_pipeline.builders.files import FilesBuilder
from danet_jax.input_pipeline.builders.folder_listing import list_images
from danet_jax.input_pipeline.checking.pairs import Pair, Picture
from danet_jax.input_pipeline.images.files import EXTENSIONS

SPLITS = ("train", "val", "test")
# Labels can also be GIF files, whose palettes are read as those of PNG files.
LABEL_EXTENSIONS = (*EXTENSIONS, *(() if ".gif" in EXTENSIONS else (".gif",)))
_HOW_TO_SPLIT = (
    "Scores come from images that were not trained on: move about every fifth image of "
    "images/train to images/val, and its label from labels/train to labels/val; keep what shows "
    "the same scene together"
)


class Folder(FilesBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Images and labels of the same names, in folders; the source itself names the classes.

    Images may be of any kind that prediction reads, and are converted to 8-bit RGB or grey as
    prediction does. Labels hold ids, or the colours of classes.
    """

    name = "folder"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "a folder with images/train and images/val, labels of the same names in labels/train and "
        "labels/val, and classes.txt, with a name on each line, or classes.json; for images "
        "without labels also images/test"
    )
    # A person can have several such data sets, folder/NAME for each.
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

    def read_palette(self, pair: Pair) -> bytes:
        assert pair.label is not None
        return folder_palettes.read_palette(pair.label, self._classes)

    def read_image(self, pair: Pair) -> Picture:
        return folder_files.read_image(pair)

    def find_pairs(self, source: Path) -> tuple[dict[str, list[Pair]], list[str]]:
        splits: dict[str, list[Pair]] = {}
        problems: list[str] = []
        files: dict[str, tuple[dict[str, Path], dict[str, Path]]] = {}
        for split in SPLITS:
            images = list_images(source, f"images/{split}", EXTENSIONS)
            labels = list_images(source, f"labels/{split}", LABEL_EXTENSIONS)
            is_labelled = bool(images.files) and (
                split != "test" or (source / "labels" / split).is_dir()
            )
            split_problems = images.problems + (labels.problems if is_labelled else [])
            self.left_out += images.left_out + labels.left_out
            if is_labelled and labels.files:
                files[split] = images.files, labels.files
            elif is_labelled and not split_problems:
                split_problems.append(
                    f"labels/{split}: no labels for the images of images/{split}"
                    + _folders_beside(source, "labels")
                )
            elif images.files and not is_labelled:
                splits[split] = [
                    Pair(folder_names.stem(name), image, None)
                    for name, image in images.files.items()
                ]
            elif split != "test" and not split_problems:
                split_problems.append(self._explain(source, split))
            problems += split_problems
        ids = folder_names.find_ids(
            {split: (list(images), list(labels)) for split, (images, labels) in files.items()}
        )
        for split, (image_files, label_files) in files.items():
            splits[split], split_problems = _pair(split, image_files, label_files, ids[split])
            problems += split_problems
        return {split: splits[split] for split in SPLITS if split in splits}, problems

    def _explain(self, source: Path, split: str) -> str:
        """Returns a sentence on a split that has no images."""
        images = source / "images"
        if not images.is_dir():
            return f"images/{split}: missing; the source is {self.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        there = sorted(path.name for path in images.iterdir())
        others = [name for name in there if (images / name).is_dir() and name not in SPLITS]
        if split == "val" and (images / "train").is_dir() and not others:
            return f"images/val: no images. {_HOW_TO_SPLIT}."
        rename = (
            f". Rename the one that is meant, and its labels' folder, {split}" if others else ""
        )
        shown = ", ".join(there[:5]) or "no files"
        return f"images/{split}: no images; images holds only: {shown}{rename}"


def _folders_beside(source: Path, missing: str) -> str:
    """Names the other folders, one of which may be the missing one; "" if there are none."""
    if (source / missing).is_dir():
        return ""
    others = sorted(
        path.name for path in source.iterdir() if path.is_dir() and path.name != "images"
    )
    return (
        f"; beside images are {', '.join(others[:5])}: rename the one that is meant"
        if others
        else ""
    )


def _pair(
    split: str,
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    ids: Mapping[str, tuple[str, str | None]],
) -> tuple[list[Pair], list[str]]:
    """Returns the pairs of a split, and what is wrong with files that are in no pair.

    Args:
      images, labels: files, by their paths below the folders of the split.
      ids: the id of each image, and the path of its label without extension.
    """
    pairs: list[Pair] = []
    problems: list[str] = []
    unused_labels: dict[str, str] = {}
    for name in labels:
        first = unused_labels.setdefault(folder_names.stem(name), name)
        if first != name:
            problems.append(f"labels/{split}/{name}: {labels[first].name} has the same name")
    images_by_id: dict[str, str] = {}
    for name, image in images.items():
        id, wanted = ids[name]
        first = images_by_id.setdefault(id, name)
        label = None if wanted is None else unused_labels.pop(wanted, None)
        if first != name:
            problems.append(f"images/{split}/{name}: {images[first].name} has the same name")
        elif label is None:
            problems.append(f"images/{split}/{name}: no label labels/{split}/{wanted or id}.*")
        else:
            pairs.append(Pair(id, image, labels[label]))
    explanation = folder_names.explain(split, list(images), list(labels), len(pairs))
    if explanation is not None:
        return pairs, [explanation]
    # A label without an image is described with the ending that the other labels have, "_mask".
    id, wanted = next(iter(ids.values()))
    is_suffix = wanted is not None and wanted.startswith(id)
    suffix = wanted[len(id) :] if wanted is not None and is_suffix else ""
    for name_stem, name in unused_labels.items():
        expected = (
            f"images/{split}/{name_stem.removesuffix(suffix)}.*"
            if is_suffix
            else "is called like it"
        )
        problems.append(f"labels/{split}/{name}: no image {expected}")
    return pairs, problems
