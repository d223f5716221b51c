"""Predictions in the form that the benchmarks' servers take, and a check of such folders."""

import dataclasses
import io
import os
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from danet_jax.base import file_names
from danet_jax.base.errors import UserError
from danet_jax.base.files import check_output, replace_file
from danet_jax.base.wording import counted

MAX_LISTED = 5


@runtime_checkable
class Split(Protocol):
    """The images to be submitted, by index."""

    def __len__(self) -> int: ...
    def id(self, index: int) -> str: ...
    def size(self, index: int) -> tuple[int, int]: ...


@dataclasses.dataclass(frozen=True)
class Format:
    """The form in which a server takes predicted labels, in the ids of the data set's own files."""

    # The path of an image's labels below the folder and in the archive.
    path: str
    archive: str
    # Height and width of all images; None where each has its own.
    size: tuple[int, int] | None = None
    # Whether labels are palette images in the classes' colours; else they are grey.
    palette: bool = False

    def file(self, folder: Path, name: str) -> Path:
        """Returns the file of an image's labels; a UserError where no file can have the name."""
        if problem := file_names.problem_of(name):
            raise UserError(
                f"The example {file_names.shown(name)} is no name of a file in {folder}: "
                f"{problem}. Prepare the data set again from files of other names."
            )
        return folder / self.path.format(name=name)


FORMATS = {
    # https://www.cityscapes-dataset.com/submit: labelIds, found by city, sequence and frame.
    "cityscapes": Format("{name}_labelIds.png", "cityscapes.zip", size=(1024, 2048)),
    # http://sceneparsing.csail.mit.edu: classes 1 to 150, names as the images'.
    "ade20k": Format("{name}.png", "ade20k.zip"),
    # http://host.robots.ox.ac.uk:8080: the results folder of the devkit; comp6 allows pretraining.
    "pascal_voc": Format(
        "results/VOC2012/Segmentation/comp6_test_cls/{name}.png", "results.tgz", palette=True
    ),
}


def format_of(data_set: str) -> Format:
    """Returns a data set's format; a UserError where there is no such server."""
    if data_set not in FORMATS:
        raise UserError(
            f"There is no submission format for {data_set}; known are {', '.join(FORMATS)}."
        )
    return FORMATS[data_set]


def check_size(form: Format, size: tuple[int, int]) -> None:
    """Raises a UserError where a server would not take labels of images of this size."""
    if form.size not in (None, size):
        raise UserError(
            f"The server takes labels of {form.size[1]}x{form.size[0]}, but the split's images are "
            f"{size[1]}x{size[0]}."
        )


def check_names(folder: Path, form: Format, names: Sequence[str]) -> None:
    """Raises a UserError where examples' names make no files, or two of them the same file."""
    taken: dict[str, str] = {}
    for name in names:
        form.file(folder, name)
        # Without case, since some file systems hold A and a to be the same.
        key = name.casefold()
        if key in taken:
            raise UserError(
                f"The examples {file_names.shown(taken[key])} and {file_names.shown(name)} would "
                f"become one file in {folder}. Prepare the data set again from files of other "
                "names."
            )
        taken[key] = name


class Submission:
    """A folder that is filled with predicted labels, and packed at the end.

    Args:
      folder: a new or an empty folder.
      form: the form that the server takes.
      ids: the id of each class in the data set's own files.
      colors: the colours of the classes.

    Raises:
      UserError: the folder is not empty.
    """

    def __init__(
        self,
        folder: Path,
        form: Format,
        *,
        ids: Sequence[int],
        colors: Sequence[tuple[int, int, int]],
    ):
        check_output("--submission", folder, empty=True)
        self._folder, self._form = folder.resolve(), form
        self._ids = np.array(ids, np.uint8)
        self._palette = np.zeros((256, 3), np.uint8)
        self._palette[self._ids] = colors

    def write(self, name: str, labels: UInt8[np.ndarray, "h w"]) -> None:
        """Writes the labels of one image."""
        image = Image.fromarray(self._ids[labels])
        if self._form.palette:
            image.putpalette(self._palette.tobytes())
        buffer = io.BytesIO()
        image.save(buffer, "png")
        file = self._form.file(self._folder, name)
        # The folder was empty, and every image is written once.
        if os.path.lexists(file):
            raise UserError(
                f"{file} was written meanwhile, and not by this command: give each eval a "
                "--submission folder of its own."
            )
        replace_file(file, data=buffer.getvalue())

    def finish(self, sizes: Mapping[str, tuple[int, int] | None]) -> Path:
        """Checks the folder as `check` does, packs it, and returns the archive."""
        check(self._folder, self._form, ids=self._ids.tolist(), sizes=sizes)
        place = self._folder / self._form.archive
        if os.path.lexists(place):
            raise UserError(
                f"{place} was written meanwhile, and not by this command. The labels beside it are "
                "complete: move it away, and pack them."
            )
        files = [self._form.file(self._folder, name) for name in sizes]
        buffer = io.BytesIO()
        if self._form.archive.endswith(".zip"):
            # PNG files do not shrink.
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
                for file in files:
                    archive.write(file, file.relative_to(self._folder))
        else:
            with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
                for file in files:
                    archive.add(file, file.relative_to(self._folder))
        return replace_file(place, data=buffer.getvalue())


def check(
    folder: Path,
    form: Format,
    *,
    ids: Sequence[int],
    sizes: Mapping[str, tuple[int, int] | None],
) -> None:
    """Checks a folder for what a server would refuse, or silently count as wrong.

    Args:
      folder: holds the files, unpacked.
      form: the form that the server takes.
      ids: the ids that the files may hold.
      sizes: height and width of each image by name; None where the form has one size for all.

    Raises:
      UserError: lists the files that are missing, superfluous, unreadable, or have a wrong size,
        mode or content.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder.")
    expected = {form.file(folder, name): size for name, size in sizes.items()}
    problems = [
        f"{file.relative_to(folder)}: no image of this name"
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file not in expected and file != folder / form.archive
    ]
    for file, size in expected.items():
        if problem := _problem(file, form, allowed=ids, size=form.size or size):
            problems.append(f"{file.relative_to(folder)}: {problem}")
    if problems:
        lines = [f"  {problem}" for problem in problems[:MAX_LISTED]]
        if len(problems) > MAX_LISTED:
            lines.append(f"  and {len(problems) - MAX_LISTED} more")
        count = counted(len(problems), "problem")
        raise UserError(
            f"{folder} is no submission of {counted(len(sizes), 'image')}, {count}:\n"
            + "\n".join(lines)
        )


def _problem(
    file: Path, form: Format, *, allowed: Sequence[int], size: tuple[int, int] | None
) -> str:
    if not file.is_file():
        return "missing"
    try:
        with Image.open(file, formats=["PNG"]) as image:
            if size is not None and image.size != size[::-1]:
                return f"{image.width}x{image.height} in place of {size[1]}x{size[0]}"
            image.load()
    except Exception as error:  # whatever Pillow's readers raise
        return f"does not decode ({error})"
    mode = "P" if form.palette else "L"
    if image.mode != mode:
        return f"mode {image.mode} in place of {mode}, one 8-bit channel of ids"
    unknown = np.setdiff1d(np.asarray(image), np.array(allowed, np.uint8))
    if unknown.size:
        shown = ", ".join(str(id) for id in unknown[:MAX_LISTED])
        return f"ids {shown}, which stand for no class (train ids in place of the data set's own?)"
    return ""


def image_sizes(split: Split, form: Format) -> dict[str, tuple[int, int] | None]:
    """Returns height and width by name, None where the format has one size for all."""
    return {
        split.id(index): None if form.size else split.size(index) for index in range(len(split))
    }
