"""One pair of an image and a label file: read, checked, made into a record."""

import dataclasses
import errno
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from danet_base.errors import OF_ITS_FOLDERS, DataError, unreadable_file
from input_pipeline import images, mistakes, opening
from input_pipeline.image_files import read_file
from input_pipeline.labels import IGNORE_LABEL

MAX_LISTED = 5
STORAGES = ("original", "fast")
# Cameras write JPEGs with a second, small image behind the first, which Pillow calls MPO.
_JPEGS = ("JPEG", "MPO")
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and its label file, None where nobody has labels.

    `part` says which of its labels it is where one file holds those of many images.
    """

    id: str
    image: Path
    label: Path | None
    part: str = ""


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


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image to be stored: bytes that `images.decode_image` decodes, what Pillow makes of them,
    and what was converted."""

    data: bytes
    image: Image.Image
    notes: Sequence[str] = ()


class LabelError(DataError):
    """A label file that is no map of ids; `suspicions` are keys of `mistakes.SUSPICIONS`."""

    def __init__(self, message: str, *, suspicions: Sequence[str] = ()):
        super().__init__(message)
        self.suspicions = list(suspicions)


class Check:
    """Makes a pair's record and tells what was seen; called from several threads.

    Args:
      root: the source folder, which file names are given relative to.
      id_map: raw id to train id (255 for ignored); other ids are errors.
      colors: of the classes, to recognise labels that were painted with them.
      read_label: raw ids of a pair's label.
      read_image: the image of a pair.
      reading: what else decides how files are read; plain values, as JSON keeps them.
      grey_images: whether grey images become records.
      storage: "original" keeps the image's bytes; "fast" stores its pixels, unless it is a JPEG,
        which decodes fast and would be ten times as large.
    """

    def __init__(
        self,
        root: Path,
        id_map: Mapping[int, int],
        *,
        colors: Sequence[tuple[int, int, int]],
        read_label: Callable[[Pair], np.ndarray],
        read_image: Callable[[Pair], Picture],
        reading: object = None,
        grey_images: bool = False,
        storage: str = "original",
    ):
        self._root = root
        self._colors = colors
        self._read_label = read_label
        self._read_image = read_image
        self._reading = reading
        self._grey_images = grey_images
        self._storage = storage
        self._table = np.full(max(max(id_map, default=0), IGNORE_LABEL) + 1, -1, np.int32)
        self._table[list(id_map)] = list(id_map.values())

    @property
    def fingerprint(self) -> list:
        return [self._table.tolist(), self._reading, self._storage, self._grey_images]

    def __call__(self, pair: Pair) -> tuple[dict, Observation]:
        """The record of a pair, without content where a problem was seen, and the observation."""
        label = "" if pair.label is None else self._name(pair.label)
        label += f" ({pair.part})" if pair.part else ""
        seen = Observation(self._name(pair.image), label)
        record = {"id": pair.id, "image": b"", "label": b""}
        image = self._check_image(pair, record, seen)
        if pair.label is not None:
            raw = self._check_label(pair, record, seen)
            if image is not None and not pair.part:
                # What else a photograph shows as a label only follows from this.
                seen.suspicions = _suspect_swap(raw, pair.label, image) or seen.suspicions
        return record, seen

    def _name(self, file: Path) -> str:
        # Some sources have a part of theirs beside them.
        return os.path.relpath(file, self._root)

    def _check_image(self, pair: Pair, record: dict, seen: Observation) -> Image.Image | None:
        try:
            picture = self._read_image(pair)
        except DataError as error:
            seen.problems.append(f"{seen.image}: {error}")
            return None
        data, image = picture.data, picture.image
        seen.notes = list(picture.notes)
        if image.mode != "RGB" and not (self._grey_images and image.mode == "L"):
            seen.problems.append(f"{seen.image}: mode {image.mode}; images are 8-bit RGB")
        seen.size = list(image.size)
        seen.digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if self._storage == "fast" and image.format not in _JPEGS:
            data = images.encode_pixels(np.asarray(image.convert("RGB")))
        record["image"] = data
        return image

    def _check_label(self, pair: Pair, record: dict, seen: Observation) -> np.ndarray | None:
        """Returns the raw ids, None where there are none."""
        try:
            raw = self._read_label(pair)
        except DataError as error:
            seen.problems.append(f"{seen.label}: {error}")
            told = getattr(error, "suspicions", [])
            seen.suspicions += dict.fromkeys([*told, *_suspect_compression(pair)])
            return None
        counts = np.bincount(raw.ravel(), minlength=self._table.size)
        ids = np.flatnonzero(counts)
        seen.counts = [[int(id), int(counts[id])] for id in ids]
        last = self._table.size - 1
        unknown = ids[(ids > last) | (self._table[np.minimum(ids, last)] < 0)]
        if unknown.size:
            shown = ", ".join(str(id) for id in unknown[:MAX_LISTED])
            known = _ranges(np.flatnonzero(self._table >= 0).tolist())
            seen.problems.append(f"{seen.label}: label ids {shown}; known are {known}")
        seen.suspicions += mistakes.suspect_label(
            raw, unknown, known=np.flatnonzero(self._table >= 0), colors=self._colors
        )
        seen.suspicions += _suspect_compression(pair)
        height, width = raw.shape
        if seen.size and seen.size != [width, height]:
            iw, ih = seen.size
            seen.problems.append(f"{seen.label}: {width}x{height}, but its image is {iw}x{ih}")
        if not seen.problems:
            label = self._table[raw].astype(np.uint8)
            fast = self._storage == "fast"
            record["label"] = images.encode_pixels(label) if fast else images.encode_label(label)
        return raw


def read_image(pair: Pair) -> Picture:
    """The file of a pair's image as it is.

    Raises:
      DataError: it is missing, empty, does not decode, or has 16-bit colours.
    """
    data = read_bytes(pair.image)
    if opening.is_deep_color(open_header(data)):
        raise DataError("16-bit colour; images are 8-bit RGB")
    image = open_image(data)
    if image.format not in (*_JPEGS, "PNG"):
        images.decode_image(data)  # training's decoder reads fewer of these
    return Picture(data, image)


def read_label(file: Path) -> UInt8[np.ndarray, "h w"]:
    """The ids of a PNG of one 8-bit channel, also of a palette's indices.

    Raises:
      LabelError: it does not decode, or is of another kind.
    """
    data = read_bytes(file)
    label = open_image(data)
    refuse_ambiguous_ids(data)
    if label.mode not in ("L", "P"):
        raise LabelError(
            f"mode {label.mode}; labels are one 8-bit channel of ids",
            suspicions=mistakes.suspect_mode(label),
        )
    return np.asarray(label)


def refuse_ambiguous_ids(data: bytes) -> None:
    """Raises a LabelError where programs read different ids out of the same file.

    Grey of 2 or 4 bits, which Pillow multiplies (1 becomes 17); and a TIFF of 1 or 8 bits in which
    0 is white: Pillow and ImageMagick invert its numbers, GDAL and tifffile give them as stored.
    """
    try:
        opened = opening.open_image(data)
    except DataError:  # whoever reads it says what is wrong
        return
    file = opened.file
    if file.mode == "L" and (";2" in opened.packing or ";4" in opened.packing):
        raise LabelError(
            "grey of 2 or 4 bits, whose ids programs scale differently; save it with 8 bits"
        )
    if file.format == "TIFF" and file.mode in ("1", "L") and opening.is_white_zero(file):
        raise LabelError(
            "a TIFF in which 0 is white or not said to be black (PhotometricInterpretation), whose "
            "ids some programs invert. Save it as PNG: where it looks right, with "
            'Image.open(FILE).save("out.png"); where its stored numbers are the ids, with '
            'Image.fromarray(tifffile.imread(FILE)).save("out.png")'
        )


def _suspect_compression(pair: Pair) -> list[str]:
    if pair.label is None or pair.part:
        return []
    try:
        return mistakes.suspect_compression(read_bytes(pair.label))
    except DataError:
        return []


def _suspect_swap(raw: np.ndarray | None, label: Path, image: Image.Image) -> list[str]:
    if raw is not None:
        return mistakes.suspect_swapped_ids(raw, image)
    try:
        return mistakes.suspect_swap(open_image(read_bytes(label)), image)
    except DataError:
        return []


def read_bytes(file: Path) -> bytes:
    """A file's content; a DataError where there is none."""
    try:
        os.stat(file)
    except ValueError:  # a list of files can hold names that no file has
        raise DataError("missing") from None
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            raise DataError("missing") from None
        raise unreadable_file(error, needed=OF_ITS_FOLDERS) from error
    return read_file(file)


def open_image(data: bytes) -> Image.Image:
    """An encoded image, decoded; a DataError where it is torn."""
    try:
        return opening.load_image(data).file
    except DataError as error:
        raise DataError(f"does not decode ({error})") from None


def open_header(data: bytes) -> opening.Opened:
    """An encoded image of which only the header is read; a DataError where that is torn."""
    try:
        return opening.open_image(data)
    except DataError as error:
        raise DataError(f"does not decode ({error})") from None


def _ranges(ids: list[int]) -> str:
    """0, 1, 2, 255 → "0-2, 255"."""
    known = set(ids)
    starts = [id for id in ids if id - 1 not in known]
    ends = [id for id in ids if id + 1 not in known]
    return ", ".join(
        str(start) if start == end else f"{start}-{end}"
        for start, end in zip(starts, ends, strict=True)
    )
