"""What checking hands on: a pair of files, its image to be stored, and what a check observed."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from danet_base.errors import DataError


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file, None where nobody has labels.

    `part` says which of its labels it is where one file holds those of many images.
    """

    id: str
    image: Path
    label: Path | None
    part: str = ""


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image to be stored: bytes that `codec.decode_image` decodes, what Pillow makes of them,
    and what was converted."""

    data: bytes
    image: Image.Image
    notes: Sequence[str] = ()


@dataclasses.dataclass
class Observation:
    """What was seen in a pair; plain values, which JSON keeps.

    `counts` holds the pixels of each raw id, [[id, pixels], …]; `size` is [width, height], [] where
    the image does not decode; `problems` are sentences; `suspicions` are keys of
    `mistakes.SUSPICIONS`; `notes` say how the image was converted.
    """

    image: str
    label: str
    size: list[int] = dataclasses.field(default_factory=list)
    counts: list[list[int]] = dataclasses.field(default_factory=list)
    digest: str = ""
    problems: list[str] = dataclasses.field(default_factory=list)
    suspicions: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


class LabelError(DataError):
    """A label file that is no map of ids; `suspicions` are keys of `mistakes.SUSPICIONS`."""

    def __init__(self, message: str, *, suspicions: Sequence[str] = ()):
        super().__init__(message)
        self.suspicions = list(suspicions)
