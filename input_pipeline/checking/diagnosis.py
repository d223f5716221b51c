"""Judges a whole data set by what was observed in its files."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from danet_jax.base.errors import DataError
from danet_jax.base.wording import counted
from danet_jax.input_pipeline.checking import label_ids, mistakes, wording
from danet_jax.input_pipeline.checking.survey import Survey

MAX_PROBLEMS = 5
# These suspicions are only warnings if the labels are usable otherwise: thin objects look like
# interpolation, and large areas survive lossy compression.
_DOUBTS = (mistakes.ANTI_ALIASED, mistakes.LOSSY, mistakes.LOSSY_WEBP)
_NO_CLASS = ("ignore", "ignored", "unlabeled", "unlabelled", "void")
_FEW_FILES = 3
# Labels of lines and points are about that empty, so this is only a warning.
_NEARLY_ALL = 0.98


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a person should know: whether it stops the work, and what to do."""

    is_error: bool
    text: str


def diagnose(survey: Survey, *, advice: str = "") -> list[Finding]:
    """Returns all findings of a data set, those that stop it first.

    Args:
      survey: the counts of the data set.
      advice: the remedy for labels with other ids than the expected ones.
    """
    errors = [*_suspicions(survey, stopping=True), *_palettes(survey)]
    if not errors:
        # Labels that are no maps of ids hold unexpected ids for that reason, which need no second
        # error.
        errors += label_ids.diagnose_ids(survey, advice=advice)
    warnings = [
        *_suspicions(survey, stopping=False),
        *label_ids.doubt_numbered_objects(survey),
        *_left_out(survey),
        *_conversions(survey),
        *_counts(survey),
        *_unlabelled_splits(survey),
        *_classes(survey),
        *_examples(survey),
    ]
    return [Finding(True, text) for text in errors] + [Finding(False, text) for text in warnings]


def raise_errors(survey: Survey, name: str, root: Path, *, advice: str) -> None:
    """Raises one DataError that counts all problems, shows the first, and says what to do."""
    texts = [finding.text for finding in diagnose(survey, advice=advice) if finding.is_error]
    if not survey.problems and not texts:
        return
    problems = survey.problems or texts
    lines = [f"  {problem}" for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"  and {len(problems) - MAX_PROBLEMS} more")
    if survey.problems:
        lines += [text[0].upper() + text[1:] for text in texts]
    raise DataError(
        f"{name}: {counted(len(problems), 'problem')} in {root}; it is not prepared.\n"
        + "\n".join(lines)
        + "\nCorrect or fetch these files again, then repeat the prepare command."
    )


def _suspicions(survey: Survey, *, stopping: bool) -> Iterable[str]:
    for kind, occurrence in survey.suspicions.items():
        if stopping == _stops(survey, kind) and not _is_chance(survey, kind):
            yield f"{wording.of_labels(occurrence, mistakes.SUSPICIONS[kind])}."


def _palettes(survey: Survey) -> Iterable[str]:
    if survey.palettes.contradiction:
        yield (
            f"palettes differ: {survey.palettes.contradiction}. Indices are read as ids, and a "
            "program that makes the best palette for each image numbers its colours anew. If the "
            "colours are right, give each class its colour, in classes.txt or classes.json, and "
            'save labels as Image.open(FILE).convert("RGB"); or save all with one palette. If the '
            "indices are right, save them alone, Image.fromarray(numpy.asarray(Image.open(FILE)))."
        )


def _stops(survey: Survey, kind: str) -> bool:
    return kind not in _DOUBTS or kind in survey.suspicions_of_faulty


def _is_chance(survey: Survey, kind: str) -> bool:
    """Returns whether only a few of many labels look like a palette's shades."""
    if kind != mistakes.PALETTE_LOST or not survey.raw_ids:
        return False
    labels = max(survey.raw_ids[id].images for id in survey.unknown_ids or survey.raw_ids)
    return 2 * survey.suspicions[kind].images < labels


def _left_out(survey: Survey) -> Iterable[str]:
    if survey.left_out:
        shown = ", ".join(survey.left_out[:_FEW_FILES])
        more = ", …" if len(survey.left_out) > _FEW_FILES else ""
        files = counted(len(survey.left_out), "file")
        verb = "was" if len(survey.left_out) == 1 else "were"
        yield f"{files} beside the images ({shown}{more}) {verb} left out: not images by name."


def _conversions(survey: Survey) -> Iterable[str]:
    for note, occurrence in survey.notes.items():
        yield f"{wording.listed(occurrence, 'image')}: {note}."


def _counts(survey: Survey) -> Iterable[str]:
    for split, expected in survey.expected.items():
        examples = survey.splits[split].examples if split in survey.splits else None
        if examples is not None and examples != expected:
            yield (
                f"split {split} has {counted(examples, 'example')}; the published one has "
                f"{expected}."
            )


def _unlabelled_splits(survey: Survey) -> Iterable[str]:
    # If no split has a labelled pixel, that is reported as an error.
    if survey.class_pixels().any():
        for name, split in survey.splits.items():
            yield from doubt_labels(name, split.class_pixels, split.ignored_pixels)


def doubt_labels(split: str, class_pixels: np.ndarray, ignored_pixels: int) -> list[str]:
    """Returns a sentence on a split in which nothing, or nearly nothing, is labelled.

    Args:
      split: the name of the split.
      class_pixels: the pixels of each class.
      ignored_pixels: the ignored pixels of images that came with labels.
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
            f"little is {effect} there. Check whether some of these ids should be classes."
        ]
    return []


def _classes(survey: Survey) -> Iterable[str]:
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
        shown = wording.quoted([names[index] for index in sorted(nowhere - {0})])
        yield f"no pixel of {shown} in the whole data set: these can be neither learned nor scored."
    for split, indices in absent.items():
        missing = [names[index] for index in indices if index not in nowhere]
        if missing:
            effect = "learned" if split == "train" else "scored"
            yield (
                f"split {split} has no pixel of {wording.quoted(missing)}, which cannot be "
                f"{effect} there."
            )
    for id, name in enumerate(names):
        if name.lower().strip("_ []()") in _NO_CLASS:
            yield (
                f"class {id} is {name!r}, and will be learned like any other. Pixels to be ignored "
                "are 255: leave the class out, and list its id as ignored."
            )


def _examples(survey: Survey) -> Iterable[str]:
    for split, counts in survey.splits.items():
        if counts.unlabelled.images and counts.class_pixels.any():
            unlabelled = wording.listed(counts.unlabelled, "image")
            yield (
                f"split {split}: {unlabelled} without any labelled pixel: nothing is learned or "
                "scored there. Label what was forgotten, or move those images out of the source."
            )
        if len(counts.sizes) > 1:
            (size, count), *_ = counts.sizes.most_common(1)
            yield (
                f"split {split}: {len(counts.sizes)} sizes of images, the most frequent {size} "
                f"({count} of {counts.examples}). That is fine: training crops them to one size, "
                "and evaluation makes batches of one size each."
            )
    for kind, pairs in survey.duplicates.items():
        effect = (
            "Scores on images that were trained on say nothing: move them out of one of the two."
            if kind.startswith("in both")
            else "They count twice."
        )
        yield f"{kind}: {wording.listed(pairs, 'pair')} of the same image. {effect}"
