"""The data of checking: a pair of files, its image to be stored, and what was observed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from danet_jax.base.errors import DataError


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file, which is None if nobody has labels.

    If one file holds the labels of many images, `part` says which of them belongs to this image.
    """

    id: str
    image: Path
    label: Path | None
    part: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image to be stored.

    `data` are bytes for `codec.decode_image`, `image` is what Pillow makes of them, and `notes` are
    sentences on what was converted.
    """

    data: bytes
    image: Image.Image
    notes: Sequence[str] = ()


@dataclasses.dataclass
class Observation:
    """What was observed in a pair, as plain values that JSON can hold.

    `counts` holds the pixels of each raw id, [[id, pixels], …]; `size` is [width, height], or [] if
    the image does not decode; `problems` are sentences; `suspicions` are keys of
    `mistakes.SUSPICIONS`; `notes` say how the image was converted; `palette` holds
    red, green, blue of each raw id, in hexadecimal, if the label is a palette image.
    """

    image: str
    label: str
    size: list[int] = dataclasses.field(default_factory=list)
    counts: list[list[int]] = dataclasses.field(default_factory=list)
    digest: str = ""
    problems: list[str] = dataclasses.field(default_factory=list)
    suspicions: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    palette: str = ""


class LabelError(DataError):
    """A label file is no map of ids; `suspicions` are keys of `mistakes.SUSPICIONS`."""

    def __init__(self, message: str, *, suspicions: Sequence[str] = ()):
        super().__init__(message)
        self.suspicions = list(suspicions)
