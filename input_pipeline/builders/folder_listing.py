"""The image files in one folder of a source, and what else lies there."""

import dataclasses
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images.files import list_folder

# Labelling tools and people put such files beside images: boxes, places on a map, notes.
_NOTES = frozenset(
    (
        *(".xml", ".json", ".geojson", ".txt", ".csv", ".md", ".yaml", ".yml", ".log", ".html"),
        *(".aux", ".cpg", ".qgz", ".qml", ".qmd", ".lyr", ".map", ".points", ".ini", ".db"),
    )
)


@dataclasses.dataclass
class Listing:
    """What lies in a folder: images, files that are left out, and problems.

    Images are listed by their paths below the folder, in Unicode's composed form; each problem is a
    sentence.
    """

    files: dict[str, Path] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def list_images(source: Path, folder: str, extensions: Sequence[str]) -> Listing:
    """Lists `folder` of a source and its subfolders, including linked ones."""
    result = Listing()
    root = source / folder
    if not root.is_dir():
        return result
    try:
        listing = list_folder(root, extensions=extensions)
    except DataError as error:
        result.problems.append(str(error).removeprefix(f"{source}/"))
        return result
    result.problems += [sentence.removeprefix(f"{source}/") for sentence in listing.left_out]
    result.left_out += [os.path.relpath(file, source) for file in listing.sidecars]
    for file in listing.others:
        where = os.path.relpath(file, source)
        if file.suffix.lower() in _NOTES:
            result.left_out.append(where)
        else:
            known = ", ".join(extensions)
            result.problems.append(f"{where}: not an image by its name; known are {known}")
    for file in listing.images:
        key = unicodedata.normalize("NFC", file.relative_to(root).as_posix())
        if key in result.files:
            result.problems.append(
                f"{os.path.relpath(file, source)}: there are two files of this name, whose accents "
                "are encoded differently (NFC and NFD); rename one of them"
            )
        result.files[key] = file
    return result
