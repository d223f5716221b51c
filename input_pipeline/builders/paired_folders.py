"""Folders of JPEG images and of PNG labels with the same names."""

from pathlib import Path

from danet_jax.input_pipeline.checking.pairs import Pair
from danet_jax.input_pipeline.images.files import list_files


def find_pairs(images: Path, labels: Path | None) -> list[Pair]:
    """Pairs images and labels by their names; `labels` is None if there are none."""
    return [
        Pair(image.stem, image, None if labels is None else labels / f"{image.stem}.png")
        for image in list_files(images, ".jpg")
    ]


def explain(source: Path, images: Path, labels: Path | None, *, layout: str) -> str:
    """Returns a sentence on a folder without images."""
    missing = f"{images.relative_to(source)}: no images (*.jpg)"
    if labels is not None and list_files(images, ".png") and list_files(labels, ".jpg"):
        return (
            f"{missing} but *.png, and {labels.relative_to(source)} holds *.jpg: images and "
            "labels seem to be swapped; exchange the two folders"
        )
    return f"{missing}; the source is {layout}"
