"""What is wrong or strange in a whole data set, by what was seen in its files."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from danet_base.wording import counted
from input_pipeline import mistakes
from input_pipeline.labels import IGNORE_LABEL

if TYPE_CHECKING:
    from input_pipeline.survey import Occurrence, Survey

# Of labels that are usable otherwise, these are only worth a look: thin things look like
# interpolation, and large areas survive lossy compression.
_DOUBTS = (mistakes.ANTI_ALIASED, mistakes.LOSSY, mistakes.LOSSY_WEBP)
_CITYSCAPES_LABEL_IDS = range(34)
_NO_CLASS = ("ignore", "ignored", "unlabeled", "unlabelled", "void")
_FEW_MISTAKES = 2
_MAX_NAMES = 5
_FEW_FILES = 3
# Labels of single lines and points are that empty, and worth a look.
_NEARLY_ALL = 0.98
# Objects may hide others, whose numbers are missing then.
_DENSE, _MOSTLY = 0.7, 0.8
_SINGULAR = {
    "are": "is",
    "have": "has",
    "hold": "holds",
    "look": "looks",
    "seem": "seems",
    "were": "was",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a person should know: whether it stops the work, and a text that says what to
    do."""

    is_error: bool
    text: str


def diagnose(survey: "Survey", *, advice: str) -> list[Finding]:
    """All findings of a data set, those that stop it first.

    Args:
      survey: what was seen in the files.
      advice: what can be done about labels in other ids than the expected ones.
    """
    errors = [*_suspicions(survey, stopping=True), *_ids(survey, advice)]
    warnings = [
        *_suspicions(survey, stopping=False),
        *_numbered_objects(survey),
        *_left_out(survey),
        *_conversions(survey),
        *_counts(survey),
        *_unlabelled_splits(survey),
        *_classes(survey),
        *_examples(survey),
    ]
    return [Finding(True, text) for text in errors] + [Finding(False, text) for text in warnings]


def _suspicions(survey: "Survey", *, stopping: bool) -> Iterable[str]:
    for kind, seen in survey.suspicions.items():
        if stopping == _stops(survey, kind) and not _is_chance(survey, kind):
            yield f"{_of_labels(seen, mistakes.SUSPICIONS[kind])}."


def _stops(survey: "Survey", kind: str) -> bool:
    return kind not in _DOUBTS or kind in survey.suspicions_of_faulty


def _is_chance(survey: "Survey", kind: str) -> bool:
    """Whether a few of many labels look like a palette's shades."""
    if kind != mistakes.PALETTE_LOST or not survey.raw_ids:
        return False
    labels = max(survey.raw_ids[id].images for id in survey.unknown_ids or survey.raw_ids)
    return 2 * survey.suspicions[kind].images < labels


def _ids(survey: "Survey", advice: str) -> Iterable[str]:
    """At most one sentence, on labels that hold ids other than the expected ones."""
    told = (kind for kind in survey.suspicions if not _is_chance(survey, kind))
    if not survey.raw_ids or any(_stops(survey, kind) for kind in told):
        return
    classes = survey.labels.num_classes
    unknown = survey.unknown_ids
    last, spare = ("the second class", "[]") if classes == 2 else ("the class", "[0]")
    if (
        classes <= 2
        and survey.raw_ids.keys() == {0, IGNORE_LABEL}
        and survey.id_map.get(IGNORE_LABEL, IGNORE_LABEL) == IGNORE_LABEL
    ):
        masks = _of_labels(survey.occurrence([IGNORE_LABEL]), "hold 0 and 255, as masks do")
        yield (
            f"{masks}, but 255 is no class here. Name it as an id of {last} in "
            f'classes.json, {{"name": "thing", "ids": [255]}}, with "ignore": {spare}.'
        )
    elif unknown and _are_objects(survey):
        yield (
            f"{_of_labels(survey.occurrence(unknown), 'seem to number objects')}: the ids run from "
            f"1 on, to another end in each label, where {counted(classes, 'class', 'classes')} "
            "are known. A label holds one number for each class, not for each object (instance): "
            "give every object the id of its class."
        )
    elif unknown:
        yield _unknown_ids(survey, unknown, advice)
    elif _is_converted(survey):
        yield (
            f"{_listed(survey.occurrence(list(survey.raw_ids)), 'label')} and all others seem to "
            f"hold train ids (0 to {classes - 1}) in place of raw ids: {advice}."
        )
    elif not survey.class_pixels().any():
        shown = _quoted(sorted(survey.raw_ids))
        yield f"no label has a pixel of any class; all are {shown}, which is ignored: {advice}."


def _are_objects(survey: "Survey") -> bool:
    """Whether unknown ids are instances: 1, 2, 3, … nearly without a gap, as far as each needs.

    Classes that are missing in the list would be gaps, or go to the same end.
    """
    runs = survey.runs_of_ids
    ends = {end for _, end in runs}
    dense = sum(count >= _DENSE * end for count, end in runs)
    return (
        len(runs) >= _FEW_MISTAKES
        and len(ends) > len(runs) / 2
        and len(ends) > 1
        and dense > _MOSTLY * len(runs)
        and max(ends) > survey.labels.num_classes + _FEW_MISTAKES
    )


def _numbered_objects(survey: "Survey") -> Iterable[str]:
    ends = survey.ends_of_counting
    if survey.unknown_ids or not mistakes.are_numbered_objects(ends, survey.not_counting):
        return
    yield (
        f"{_of_labels(survey.counting, 'hold 1, 2, 3, … without a gap')}, and end at different "
        f"numbers ({min(ends)} to {max(ends)}), as where the objects of each image are numbered "
        "(instances). If that is so, give every object the id of its class; nothing can be learned "
        "from such numbers."
    )


def _unknown_ids(survey: "Survey", unknown: Sequence[int], advice: str) -> str:
    classes = survey.labels.num_classes
    occurrence = survey.occurrence(unknown)
    seen = _listed(occurrence, "label")
    beside = survey.ids_beside_unknown
    known = survey.id_map.keys() - {IGNORE_LABEL}
    last = max(known, default=-1)
    train_ids = {*range(classes), IGNORE_LABEL}
    # A few unknown ids below the number of classes may be the mistakes of a few labels.
    telling = IGNORE_LABEL in unknown or len(unknown) > _FEW_MISTAKES
    if telling and last + 1 > classes and beside | {*unknown} <= train_ids:
        converted = _of_labels(occurrence, "were converted to train ids already")
        return f"{converted} (0 to {classes - 1} and 255): {advice}."
    found = survey.raw_ids.keys() - {IGNORE_LABEL}
    ignored = max(
        (raw for raw, train in survey.id_map.items() if train == IGNORE_LABEL),
        default=IGNORE_LABEL,
    )
    beyond = {*unknown} - {0, IGNORE_LABEL}
    shifted = bool(beyond) and all(id - 1 in known for id in found - {0})
    if shifted and 0 not in found:
        return (
            f"ids {min(found)} to {max(found)} occur and never 0: they are shifted by one ({seen})."
            f" Subtract 1 from all but 255, or {advice}."
        )
    if shifted and survey.id_map.get(0) != IGNORE_LABEL:
        meant = f"stands for background or unlabelled pixels, which are {ignored} here ({seen})"
        correction = f"make that into {ignored} and subtract 1 from all others but 255; or {advice}"
        if unknown == [last + 1] and known == {*range(last + 1)}:
            return (
                f"ids 0 to {last + 1} occur, one more than are known: 0 or {last + 1} {meant}. If "
                f"{last + 1} does, make that into {ignored}; if 0 does, {correction}."
            )
        return f"all ids but 0 are shifted by one; 0 {meant}: {correction}."
    if classes == 19 and last < 33 and beside <= {*_CITYSCAPES_LABEL_IDS, IGNORE_LABEL}:
        raw = _of_labels(occurrence, "look like Cityscapes' raw labelIds")
        return (
            f"{raw} (0 to 33), where train ids (0 to 18) are expected: give the "
            f"*_labelTrainIds.png files; or {advice}."
        )
    subject = f"id {unknown[0]} is" if len(unknown) == 1 else f"ids {_quoted(unknown)} are"
    return f"{subject} no class's, and not known as ignored ({seen}): {advice}."


def _is_converted(survey: "Survey") -> bool:
    """Whether all ids could be train ids where many a class's raw id is above all train ids."""
    classes = survey.labels.num_classes
    above = sum(raw >= classes for raw in survey.labels.raw_ids)
    found = survey.raw_ids.keys() - {IGNORE_LABEL}
    foreign = found - {0, *survey.labels.raw_ids}
    # Or one more, with 0 for the background.
    return bool(foreign) and max(found) <= classes and above > classes / 2


def _left_out(survey: "Survey") -> Iterable[str]:
    if survey.left_out:
        shown = ", ".join(survey.left_out[:_FEW_FILES])
        more = ", …" if len(survey.left_out) > _FEW_FILES else ""
        files = counted(len(survey.left_out), "file")
        yield f"{files} beside the images ({shown}{more}) left out, by their names no images."


def _conversions(survey: "Survey") -> Iterable[str]:
    for note, seen in survey.notes.items():
        yield f"{_listed(seen, 'image')}: {note}."


def _counts(survey: "Survey") -> Iterable[str]:
    for split, expected in survey.expected.items():
        found = survey.splits[split].examples if split in survey.splits else None
        if found is not None and found != expected:
            yield (
                f"split {split} has {counted(found, 'example')}; the published one has {expected}."
            )


def _unlabelled_splits(survey: "Survey") -> Iterable[str]:
    # Where no split has a labelled pixel, that is an error, and told as one.
    if survey.class_pixels().any():
        for name, split in survey.splits.items():
            yield from doubt_labels(name, split.class_pixels, split.ignored_pixels)


def doubt_labels(split: str, class_pixels: np.ndarray, ignored_pixels: int) -> list[str]:
    """A sentence on a split of which nothing, or nearly nothing, is labelled.

    Args:
      class_pixels: pixels of each class.
      ignored_pixels: those of no class, of images that came with labels.
    """
    labelled = int(class_pixels.sum())
    share = ignored_pixels / max(1, labelled + ignored_pixels)
    effect = "learned" if split.startswith("train") else "scored"
    field = "train_split" if split.startswith("train") else "eval_split"
    cure = (
        "Give labels that hold ids of classes (those of a test set are often placeholders), or "
        f"choose another config.data.{field}"
    )
    if ignored_pixels and not labelled:
        return [
            f"split {split} has no labelled pixel: 100 % of the pixels of its labels are ignored, "
            f"and nothing can be {effect} there. {cure}."
        ]
    if share > _NEARLY_ALL:
        return [
            f"split {split}: {100 * share:.1f} % of the pixels of its labels are ignored, so that "
            f"little is {effect} there. Look whether these are ids that were to be classes."
        ]
    return []


def _classes(survey: "Survey") -> Iterable[str]:
    names = survey.labels.names
    labelled = {name: split for name, split in survey.splits.items() if split.class_pixels.any()}
    if not labelled:
        return
    absent = {
        name: [index for index, pixels in enumerate(split.class_pixels) if not pixels]
        for name, split in labelled.items()
    }
    nowhere = set.intersection(*map(set, absent.values()))
    if 0 in nowhere:
        yield (
            f"class 0, {names[0]!r}, occurs nowhere: ids may be shifted by one; look at the "
            "samples of the report."
        )
    if nowhere - {0}:
        shown = _quoted([names[index] for index in sorted(nowhere - {0})])
        yield f"no pixel of {shown} in the whole set: they cannot be learned, nor scored."
    for split, indices in absent.items():
        missing = [names[index] for index in indices if index not in nowhere]
        if missing:
            effect = "learned" if split == "train" else "scored"
            yield f"split {split} has no pixel of {_quoted(missing)}: not to be {effect} there."
    for id, name in enumerate(names):
        if name.lower().strip("_ []()") in _NO_CLASS:
            yield (
                f"class {id} is {name!r}, and will be learned like any other. Pixels to be ignored "
                "are 255: leave the class out, and list its id as ignored."
            )


def _examples(survey: "Survey") -> Iterable[str]:
    for split, seen in survey.splits.items():
        if seen.unlabelled.images and seen.class_pixels.any():
            unlabelled = _listed(seen.unlabelled, "image")
            yield (
                f"split {split}: {unlabelled} without any labelled pixel: nothing is learned or "
                "scored there. Label what was forgotten, or move it out of the source."
            )
        if len(seen.sizes) > 1:
            (size, count), *_ = seen.sizes.most_common(1)
            yield (
                f"split {split}: {len(seen.sizes)} sizes of images, the most frequent {size} "
                f"({count} of {seen.examples}). That is fine: training crops them to one size, and "
                "evaluation makes batches of one size each."
            )
    for kind, pairs in survey.duplicates.items():
        effect = (
            "Scores on images that were trained on say nothing: move them out of one of the two."
            if kind.startswith("in both")
            else "They count twice."
        )
        yield f"{kind}: {_listed(pairs, 'pair')} of the same image. {effect}"


def _of_labels(seen: "Occurrence", text: str) -> str:
    """What is said of several labels, "2 labels (FILES) hold …"; of one, that it "holds"."""
    verb, space, rest = text.partition(" ")
    return f"{_listed(seen, 'label')} {_SINGULAR[verb] if seen.images == 1 else verb}{space}{rest}"


def _listed(seen: "Occurrence", what: str) -> str:
    more = ", …" if seen.images > len(seen.files) else ""
    return f"{counted(seen.images, what)} ({', '.join(seen.files)}{more})"


def _quoted(things: Sequence[int | str]) -> str:
    """The first of these, and how many more there are."""
    shown = ", ".join(repr(thing) for thing in things[:_MAX_NAMES])
    return f"{shown} and {len(things) - _MAX_NAMES} more" if things[_MAX_NAMES:] else shown
