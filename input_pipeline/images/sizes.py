"""Heights and widths of image files, without decoding them."""

import contextlib
import warnings
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from danet_jax.input_pipeline.images import tiff
from danet_jax.input_pipeline.images.files import read_file
from danet_jax.input_pipeline.images.opening import FORMATS, check_size, open_image, orientation

Size = tuple[int, int]


def sizes_of_files(paths: Iterable[Path]) -> list[Size]:
    """Returns (height, width) of image files, turned upright, as their headers say.

    Files that cannot be read are left out.
    """
    sizes = []
    for path in paths:
        # What is wrong with a file is reported when it is read.
        with contextlib.suppress(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.is_file():
                sizes.append(_size(path))
    return sizes


def _size(path: Path) -> Size:
    try:
        with Image.open(path, formats=FORMATS) as image:
            # An image that is refused is not segmented, so no shape is prepared for it.
            check_size(*image.size)
            if image.format != "TIFF" or tiff.is_plain(image.tag_v2):  # type: ignore[attr-defined]
                return _upright(image)
    except UnidentifiedImageError:
        # The first directory of a TIFF may be a mask, which Pillow does not read.
        with path.open("rb") as file:
            if not tiff.is_tiff(file.read(4)):
                raise
    return _upright(open_image(read_file(path)).file)


def _upright(image: Image.Image) -> Size:
    width, height = image.size
    return (width, height) if orientation(image) >= 5 else (height, width)
