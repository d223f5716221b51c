"""What is in a data set: classes, sizes, doubtful files; counted while it is prepared."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from danet_base.errors import DataError
from danet_base.json_files import is_there, read_json
from danet_base.texts import one_line
from danet_base.wording import counted
from input_pipeline import diagnosis, prepared_files
from input_pipeline.diagnosis import Finding
from input_pipeline.labels import IGNORE_LABEL, Labels

if TYPE_CHECKING:
    from input_pipeline.builders.verification import Observation

FILE = "survey.json"
ADVICE = "Move it away: the data set is then counted anew where it is shown."
MAX_PROBLEMS = 5
MAX_FILES = 3


@dataclasses.dataclass
class Occurrence:
    """In how many images something is, and the first of them."""

    images: int = 0
    files: list[str] = dataclasses.field(default_factory=list)

    def add(self, file: str) -> None:
        self.images += 1
        if len(self.files) < MAX_FILES:
            self.files.append(file)


@dataclasses.dataclass
class SplitSurvey:
    """Of one split: pixels by class and ignored ones, sizes "WxH", images without a label."""

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
      id_map: raw id to train id (255 for ignored).
      expected: examples of each split as published.
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
        # Files of the source which hold no image, and are no mistake.
        self.left_out: list[str] = []
        self.suspicions: dict[str, Occurrence] = {}
        # Those of them that were seen where there was a problem, too.
        self.suspicions_of_faulty: set[str] = set()
        self.notes: dict[str, Occurrence] = {}
        self.raw_ids: dict[int, Occurrence] = {}
        self.ids_beside_unknown: set[int] = set()
        # Of each label with unknown ids how many it has besides 0 and 255, and the highest.
        self.runs_of_ids: list[tuple[int, int]] = []
        # Labels whose ids besides 0 and 255 are 1, 2, 3, … without a gap, counted by the highest of
        # them; and how many others there are. Labels with id 1 alone, which tells nothing, are in
        # neither.
        self.counting = Occurrence()
        self.ends_of_counting: collections.Counter[int] = collections.Counter()
        self.not_counting = 0
        self.duplicates: dict[str, Occurrence] = {}
        self._digests: dict[str, str] = {}

    def add(self, split: str, seen: "Observation") -> None:
        """Counts one pair."""
        total = self._split(split)
        total.examples += 1
        self.problems += seen.problems
        for kind in seen.suspicions:
            self.suspicions.setdefault(kind, Occurrence()).add(seen.label)
        if seen.problems:
            self.suspicions_of_faulty |= set(seen.suspicions)
        for note in seen.notes:
            self.notes.setdefault(note, Occurrence()).add(seen.image)
        if seen.size:
            total.sizes["x".join(map(str, seen.size))] += 1
            self._note_duplicate(split, seen)
        present = set()
        for raw, pixels in seen.counts:
            self.raw_ids.setdefault(raw, Occurrence()).add(seen.label)
            id = self.id_map.get(raw, IGNORE_LABEL)
            if id == IGNORE_LABEL:
                total.ignored_pixels += pixels
            else:
                total.class_pixels[id] += pixels
                present.add(id)
        total.images_with_class[list(present)] += 1
        ids = {raw for raw, _ in seen.counts}
        things = ids - {0, IGNORE_LABEL}
        end = max(things, default=0)
        if end > 1 and len(things) == end:
            self.counting.add(seen.label)
            self.ends_of_counting[end] += 1
        elif end > 1:
            self.not_counting += 1
        if not ids <= self.id_map.keys():
            self.ids_beside_unknown |= ids
            self.runs_of_ids.append((len(things), end))
        if seen.label and not present:
            total.unlabelled.add(seen.image)

    def _split(self, name: str) -> SplitSurvey:
        if name not in self.splits:
            classes = self.labels.num_classes
            self.splits[name] = SplitSurvey(
                class_pixels=np.zeros(classes, np.int64),
                images_with_class=np.zeros(classes, np.int64),
            )
        return self.splits[name]

    def _note_duplicate(self, split: str, seen: "Observation") -> None:
        first = self._digests.setdefault(seen.digest, f"{split}:{seen.image}")
        other, _, file = first.partition(":")
        if (other, file) != (split, seen.image):
            kind = f"in both {other} and {split}" if other != split else f"twice in {split}"
            self.duplicates.setdefault(kind, Occurrence()).add(f"{file} = {seen.image}")

    @property
    def unknown_ids(self) -> list[int]:
        """Raw ids that are no class's and not to be ignored, sorted."""
        return sorted(self.raw_ids.keys() - self.id_map.keys())

    def occurrence(self, raw_ids: Sequence[int]) -> Occurrence:
        """The labels that hold the rarest of these ids."""
        return min((self.raw_ids[id] for id in raw_ids), key=lambda seen: seen.images)

    def class_pixels(self) -> np.ndarray:
        """Pixels of each class over all splits, int64 [classes]."""
        zero = np.zeros(self.labels.num_classes, np.int64)
        return sum((split.class_pixels for split in self.splits.values()), zero)

    def findings(self, *, advice: str = "") -> list[Finding]:
        """What a person should know, what stops the work first."""
        return diagnosis.diagnose(self, advice=advice)

    def raise_errors(self, name: str, root: Path, *, advice: str) -> None:
        """Raises one DataError that counts all problems, shows the first, and says what to do."""
        texts = [finding.text for finding in self.findings(advice=advice) if finding.is_error]
        if not self.problems and not texts:
            return
        problems = self.problems or texts
        lines = [f"  {problem}" for problem in problems[:MAX_PROBLEMS]]
        if len(problems) > MAX_PROBLEMS:
            lines.append(f"  and {len(problems) - MAX_PROBLEMS} more")
        if self.problems:
            lines += [text[0].upper() + text[1:] for text in texts]
        raise DataError(
            f"{name}: {counted(len(problems), 'problem')} in {root}; it is not prepared.\n"
            + "\n".join(lines)
            + "\nCorrect or fetch these files again, then repeat the prepare command."
        )

    def write(self, folder: Path) -> None:
        """Keeps the counts and the warnings beside a prepared data set."""
        content = {
            "splits": {
                name: {
                    "examples": split.examples,
                    "class_pixels": split.class_pixels.tolist(),
                    "images_with_class": split.images_with_class.tolist(),
                    "ignored_pixels": split.ignored_pixels,
                    "sizes": dict(split.sizes.most_common()),
                }
                for name, split in self.splits.items()
            },
            "warnings": [finding.text for finding in self.findings() if not finding.is_error],
        }
        (folder / FILE).write_text(json.dumps(content, indent=1))


@dataclasses.dataclass(frozen=True)
class SplitSummary:
    """Of one split: pixels and images by class id, ignored pixels, images by "WxH", most frequent
    first."""

    examples: int
    class_pixels: np.ndarray
    images_with_class: np.ndarray
    ignored_pixels: int
    sizes: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `Survey.write` kept."""

    splits: dict[str, SplitSummary]
    warnings: list[str]


def read(folder: Path) -> Summary | None:
    """What `Survey.write` kept in a folder; None where nothing was."""
    file = folder / FILE
    if not is_there(file):
        return None
    content = read_json(file, prepared_files.SURVEY, error=DataError, advice=ADVICE)
    splits = {}
    for name, values in content["splits"].items():
        known = {field.name: values[field.name] for field in dataclasses.fields(SplitSummary)}
        for field in ("class_pixels", "images_with_class"):
            known[field] = np.array(values[field], np.int64)
        if sum(values["sizes"].values()) > values["examples"]:
            raise DataError(
                f"{file} cannot be read: splits.{one_line(name)}.sizes has more images than "
                f"{values['examples']} examples. {ADVICE}"
            )
        splits[name] = SplitSummary(**known)
    return Summary(splits, content["warnings"])
