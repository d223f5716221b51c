"""Counts what is in a data set while it is prepared: classes, sizes, doubtful files."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from danet_jax.input_pipeline.checking.pairs import Observation
from danet_jax.input_pipeline.images.palettes import Palette, Palettes
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels

MAX_FILES = 3


@dataclasses.dataclass
class Occurrence:
    """In how many images something occurs, and the first of them."""

    images: int = 0
    files: list[str] = dataclasses.field(default_factory=list)

    def add(self, file: str) -> None:
        self.images += 1
        if len(self.files) < MAX_FILES:
            self.files.append(file)


@dataclasses.dataclass
class SplitSurvey:
    """The counts of one split: `sizes` by "WxH", `unlabelled` without any labelled pixel."""

    class_pixels: np.ndarray
    ignored_pixels: int = 0
    examples: int = 0
    images_with_class: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    sizes: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    unlabelled: Occurrence = dataclasses.field(default_factory=Occurrence)


class Survey:
    """Counts what verification observes, pair by pair.

    Args:
      labels: the classes.
      id_map: maps raw ids to train ids (255 for ignored).
      expected: the published number of examples of each split.
    """

    def __init__(
        self,
        labels: Labels,
        id_map: Mapping[int, int],
        *,
        expected: Mapping[str, int] | None = None,
    ):
        self.labels = labels
        self.id_map = id_map
        self.expected = dict(expected or {})
        self.splits: dict[str, SplitSurvey] = {}
        self.problems: list[str] = []
        # These files of the source are no images, and no mistake either.
        self.left_out: list[str] = []
        self.suspicions: dict[str, Occurrence] = {}
        # These suspicions were raised by at least one file that also has a problem.
        self.suspicions_of_faulty: set[str] = set()
        self.notes: dict[str, Occurrence] = {}
        self.raw_ids: dict[int, Occurrence] = {}
        self.ids_beside_unknown: set[int] = set()
        # Each label with unknown ids has an entry: how many ids it has besides 0 and 255, and the
        # highest.
        self.runs_of_ids: list[tuple[int, int]] = []
        # Some labels count: their ids besides 0 and 255 are 1, 2, 3, … without a gap. They are
        # counted by their highest id, and labels with gaps by `not_counting`. Labels with id 1
        # alone tell nothing, and are in neither.
        self.counting = Occurrence()
        self.ends_of_counting: collections.Counter[int] = collections.Counter()
        self.not_counting = 0
        self.palettes = Palettes(id_map)
        self.duplicates: dict[str, Occurrence] = {}
        self._digests: dict[str, str] = {}

    def add(self, split: str, observation: Observation) -> None:
        """Counts one pair."""
        total = self._split(split)
        total.examples += 1
        self.problems += observation.problems
        for kind in observation.suspicions:
            self.suspicions.setdefault(kind, Occurrence()).add(observation.label)
        if observation.problems:
            self.suspicions_of_faulty |= set(observation.suspicions)
        for note in observation.notes:
            self.notes.setdefault(note, Occurrence()).add(observation.image)
        if observation.size:
            total.sizes["x".join(map(str, observation.size))] += 1
            self._note_duplicate(split, observation)
        present = set()
        for raw, pixels in observation.counts:
            self.raw_ids.setdefault(raw, Occurrence()).add(observation.label)
            id = self.id_map.get(raw, IGNORE_LABEL)
            if id == IGNORE_LABEL:
                total.ignored_pixels += pixels
            else:
                total.class_pixels[id] += pixels
                present.add(id)
        total.images_with_class[list(present)] += 1
        ids = {raw for raw, _ in observation.counts}
        if observation.palette:
            data = bytes.fromhex(observation.palette)
            self.palettes.add(Palette.of(observation.label, data, sorted(ids)))
        numbers = ids - {0, IGNORE_LABEL}
        end = max(numbers, default=0)
        if end > 1 and len(numbers) == end:
            self.counting.add(observation.label)
            self.ends_of_counting[end] += 1
        elif end > 1:
            self.not_counting += 1
        if not ids <= self.id_map.keys():
            self.ids_beside_unknown |= ids
            self.runs_of_ids.append((len(numbers), end))
        if observation.label and not present:
            total.unlabelled.add(observation.image)

    def _split(self, name: str) -> SplitSurvey:
        if name not in self.splits:
            classes = self.labels.num_classes
            self.splits[name] = SplitSurvey(
                class_pixels=np.zeros(classes, np.int64),
                images_with_class=np.zeros(classes, np.int64),
            )
        return self.splits[name]

    def _note_duplicate(self, split: str, observation: Observation) -> None:
        first = self._digests.setdefault(observation.digest, f"{split}:{observation.image}")
        other, _, file = first.partition(":")
        if (other, file) != (split, observation.image):
            kind = f"in both {other} and {split}" if other != split else f"twice in {split}"
            self.duplicates.setdefault(kind, Occurrence()).add(f"{file} = {observation.image}")

    @property
    def unknown_ids(self) -> list[int]:
        """Raw ids that are neither of a class nor ignored, sorted."""
        return sorted(self.raw_ids.keys() - self.id_map.keys())

    def occurrence(self, raw_ids: Sequence[int]) -> Occurrence:
        """Returns the labels that hold the rarest of these ids."""
        return min((self.raw_ids[id] for id in raw_ids), key=lambda occurrence: occurrence.images)

    def class_pixels(self) -> np.ndarray:
        """Returns the pixels of each class over all splits, int64 [classes]."""
        zero = np.zeros(self.labels.num_classes, np.int64)
        return sum((split.class_pixels for split in self.splits.values()), zero)
