"""Heights and widths of images, without decoding them."""

import collections
import contextlib
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from input_pipeline import survey
from input_pipeline.datasets import Split, parts_of
from input_pipeline.errors import DataError
from input_pipeline.image_files import read_file
from input_pipeline.opening import FORMATS, check_size, open_image, orientation

Size = tuple[int, int]


def sizes_of_files(paths: Iterable[Path]) -> list[Size]:
    """Height and width of image files, upright, by their headers; unreadable ones are left out."""
    found = []
    for path in paths:
        # Whatever is wrong with a file is said when it is read.
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not path.is_file():
                continue
            with Image.open(path, formats=FORMATS) as image:
                # What is refused is not labelled, and no shape is to be made for it.
                check_size(*image.size)
                # Its first directory may be an overview.
                file = open_image(read_file(path)).file if image.format == "TIFF" else image
                found.append(file.size if orientation(file) >= 5 else file.size[::-1])
    return found


def sizes_of_split(split: Split) -> collections.Counter[Size]:
    """How many images of each height and width the whole split holds that this may be a part of.

    They were counted when it was prepared; of a data set that others prepared nothing is known.
    """
    sizes: collections.Counter[Size] = collections.Counter()
    with contextlib.suppress(DataError, ValueError, OSError):
        summary = survey.read(split.folder)
        splits = summary.splits if summary else {}
        for part in set(parts_of(split.split)) & splits.keys():
            for text, number in splits[part].sizes.items():
                width, height = map(int, text.split("x"))
                sizes[height, width] += number
    return sizes
