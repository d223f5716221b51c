"""Reads and checks one pair of an image and a label file, and makes its record."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.checking import mistakes
from danet_jax.input_pipeline.checking.pairs import Observation, Pair, Picture
from danet_jax.input_pipeline.checking.reading import JPEGS, MAX_LISTED, open_image, read_bytes
from danet_jax.input_pipeline.images import codec
from danet_jax.input_pipeline.labels import IGNORE_LABEL

STORAGES = ("original", "fast")


class Check:
    """Makes the record of a pair and reports what was observed; called from several threads.

    Args:
      root: the source folder; messages name files relative to it.
      id_map: maps raw ids to train ids (255 for ignored); other ids are errors.
      colors: the colours of the classes, to recognise labels painted in them.
      read_label: reads the raw ids of a pair's label.
      read_palette: reads red, green, blue of each raw id of a pair's label, if that gives them.
      read_image: reads the image of a pair.
      reading: plain values of JSON, on which the way of reading files also depends.
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
        read_palette: Callable[[Pair], bytes],
        read_image: Callable[[Pair], Picture],
        reading: object = None,
        grey_images: bool = False,
        storage: str = "original",
    ):
        self._root = root
        self._colors = colors
        self._read_label = read_label
        self._read_palette = read_palette
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
        """Returns the record of a pair, empty if there is a problem, and the observation."""
        label = "" if pair.label is None else self._name(pair.label)
        label += f" ({pair.part})" if pair.part else ""
        observation = Observation(self._name(pair.image), label)
        record = {"id": pair.id, "image": b"", "label": b""}
        image = self._check_image(pair, record, observation)
        if pair.label is not None:
            raw = self._check_label(pair, record, observation)
            if image is not None and not pair.part:
                # A photograph in place of a label raises other suspicions, too, which only follow
                # from this one.
                observation.suspicions = (
                    _suspect_swap(raw, pair.label, image) or observation.suspicions
                )
        return record, observation

    def _name(self, file: Path) -> str:
        # A part of the source may lie beside its folder.
        return os.path.relpath(file, self._root)

    def _check_image(
        self, pair: Pair, record: dict, observation: Observation
    ) -> Image.Image | None:
        try:
            picture = self._read_image(pair)
        except DataError as error:
            observation.problems.append(f"{observation.image}: {error}")
            return None
        data, image = picture.data, picture.image
        observation.notes = list(picture.notes)
        if image.mode != "RGB" and not (self._grey_images and image.mode == "L"):
            observation.problems.append(
                f"{observation.image}: mode {image.mode}; images are 8-bit RGB"
            )
        observation.size = list(image.size)
        observation.digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        if self._storage == "fast" and image.format not in JPEGS:
            data = codec.encode_pixels(np.asarray(image.convert("RGB")))
        record["image"] = data
        return image

    def _check_label(self, pair: Pair, record: dict, observation: Observation) -> np.ndarray | None:
        """Returns the raw ids, None where there are none."""
        try:
            raw = self._read_label(pair)
            observation.palette = self._read_palette(pair).hex()
        except DataError as error:
            observation.problems.append(f"{observation.label}: {error}")
            suspicions = getattr(error, "suspicions", [])
            observation.suspicions += dict.fromkeys([*suspicions, *_suspect_compression(pair)])
            return None
        counts = np.bincount(raw.ravel(), minlength=self._table.size)
        ids = np.flatnonzero(counts)
        observation.counts = [[int(id), int(counts[id])] for id in ids]
        last = self._table.size - 1
        unknown = ids[(ids > last) | (self._table[np.minimum(ids, last)] < 0)]
        if unknown.size:
            shown = ", ".join(str(id) for id in unknown[:MAX_LISTED])
            known = _ranges(np.flatnonzero(self._table >= 0).tolist())
            observation.problems.append(
                f"{observation.label}: label ids {shown}; known are {known}"
            )
        observation.suspicions += mistakes.suspect_label(
            raw, unknown, known=np.flatnonzero(self._table >= 0), colors=self._colors
        )
        observation.suspicions += _suspect_compression(pair)
        height, width = raw.shape
        if observation.size and observation.size != [width, height]:
            iw, ih = observation.size
            observation.problems.append(
                f"{observation.label}: {width}x{height}, but its image is {iw}x{ih}"
            )
        if not observation.problems:
            label = self._table[raw].astype(np.uint8)
            fast = self._storage == "fast"
            record["label"] = codec.encode_pixels(label) if fast else codec.encode_label(label)
        return raw


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


def _ranges(ids: list[int]) -> str:
    """Writes 0, 1, 2, 255 as "0-2, 255"."""
    known = set(ids)
    starts = [id for id in ids if id - 1 not in known]
    ends = [id for id in ids if id + 1 not in known]
    return ", ".join(
        str(start) if start == end else f"{start}-{end}"
        for start, end in zip(starts, ends, strict=True)
    )
