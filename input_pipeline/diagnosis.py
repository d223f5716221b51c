"""The usual mistakes in labels: how each shows in the files, and what to do about it."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from input_pipeline.labels import IGNORE_LABEL, standard_color

if TYPE_CHECKING:
    from input_pipeline.survey import Occurrence, Survey

ANTI_ALIASED = "anti-aliased"
COLORED = "coloured"
GREY_AS_RGB = "grey as RGB"
LOSSY = "lossy"
PALETTE_LOST = "palette lost"
SWAPPED = "swapped"
UNKNOWN_COLORS = "unknown colours"

# What one label file can show by itself, and what to say of it.
SUSPICIONS = {
    ANTI_ALIASED: "seem to have been resized with interpolation: along their edges are values that "
    "lie between those of both sides and mean nothing. Make them again from the originals, and "
    "resize labels with NEAREST only",
    COLORED: "are painted in colours, as palette images are that were converted to RGB. Give files "
    "of ids, a palette image's indices; or name the colour of each class in classes.json of data "
    "set `folder`",
    GREY_AS_RGB: "hold ids, but in three equal channels. Save them with one channel, "
    'Image.open(FILE).convert("L")',
    LOSSY: "are compressed as JPEG, which changes ids along all edges. Make them again from the "
    "originals, and save labels as PNG",
    PALETTE_LOST: "hold the brightness of the classes' colours in place of ids: a palette image "
    'was converted to grey. Start from the palette files, and read their indices, mode "P"',
    SWAPPED: "are photographs, and their images look like labels: images and labels seem to be "
    "swapped. Exchange the two folders",
    UNKNOWN_COLORS: "hold colours that no class has. Name the colour of each class in "
    'classes.json, and those that mean nothing under "ignore", [[0, 0, 0]]',
}
# Of labels that are usable otherwise, these are only worth a look: thin things look like
# interpolation, and large areas survive a JPEG.
_DOUBTS = (ANTI_ALIASED, LOSSY)

_LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
_CITYSCAPES_LABEL_IDS = range(34)
_NO_CLASS = ("ignore", "ignored", "unlabeled", "unlabelled", "void")
_SAMPLES = 64
# Distinct values among 64 x 64 pixels: drawn things have few, photographs have hundreds.
_FEW, _MANY = 40, 120
# The share of a label's horizontal changes that lead to a value between both neighbours'.
_INTERPOLATED_SHARE = 0.25
_INTERPOLATED_PIXELS = 20
# Of more shades, as 171 classes have, many ids are one by chance.
_FEW_SHADES = 64
# The largest probability of all ids of a label being shades by chance, also where all are known.
_CHANCE, _CHANCE_OF_KNOWN = 0.1, 1e-3
_FEW_MISTAKES = 2
_MAX_NAMES = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a person should know: whether it stops the work, and a text that says what to
    do."""

    is_error: bool
    text: str


# --- in one file ---------------------------------------------------------------------------------


def suspect_label(
    raw: np.ndarray,
    unknown: np.ndarray,
    *,
    known: np.ndarray,
    colors: Sequence[Sequence[int]],
) -> list[str]:
    """What is strange in a map of raw ids, of which `unknown` are not among the known ones."""
    found = []
    if unknown.size and raw.any():
        standard = [standard_color(index) for index in (*range(len(colors) + 1), IGNORE_LABEL)]
        ids = np.unique(raw[raw != 0])
        for palette in (colors, standard):
            shades = _shades(palette)
            of_palette = np.isin(raw[raw != 0], shades).mean() > 0.95
            telling = shades.size <= _FEW_SHADES or (
                np.isin(ids, shades).all() and (shades.size / 256) ** ids.size < _CHANCE
            )
            if telling and of_palette and np.isin(unknown, shades).any():
                found = [PALETTE_LOST]
    elif raw.any() and colors:
        shades = _shades(colors)
        ids = np.unique(raw[raw != 0])
        share = np.isin(known, shades).mean()
        if np.isin(ids, shades).all() and share**ids.size < _CHANCE_OF_KNOWN:
            found = [PALETTE_LOST]
    if not found and _is_interpolated(raw):
        found.append(ANTI_ALIASED)
    return found


def _shades(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """What Pillow makes of colours when it converts them to grey."""
    return np.unique((np.asarray(colors) @ (299, 587, 114) + 500) // 1000)


def suspect_name(label: Path) -> list[str]:
    """What the name of a label file says."""
    return [LOSSY] if label.suffix.lower() in _LOSSY_SUFFIXES else []


def _is_interpolated(raw: np.ndarray) -> bool:
    before, left, middle, right, after = (
        raw[:, shift : raw.shape[1] - 4 + shift] for shift in range(5)
    )
    between = ((left < middle) & (middle < right)) | ((left > middle) & (middle > right))
    # At the edge of an area; things of one pixel, one beside the other, would count otherwise.
    between &= (before == left) | (right == after)
    count = np.count_nonzero(between)
    changes = np.count_nonzero(left != middle)
    return bool(count > max(_INTERPOLATED_PIXELS, _INTERPOLATED_SHARE * changes))


def suspect_mode(label: Image.Image) -> list[str]:
    """What a label file of another kind than ids may be."""
    if label.mode in ("RGB", "RGBA"):
        pixels = np.asarray(label.convert("RGB"))
        if (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all():
            return [GREY_AS_RGB]
        if not is_photograph(label):
            return [COLORED]
    return []


def suspect_swap(label: Image.Image, image: Image.Image) -> list[str]:
    """[SWAPPED] where the label is a photograph and the image is not."""
    return [SWAPPED] if is_photograph(label) and _count_values(image) <= _FEW else []


def suspect_swapped_ids(raw: np.ndarray, image: Image.Image) -> list[str]:
    """The same of a map of ids, from whatever file."""
    if raw.size < _MANY or np.ptp(raw) < _MANY:
        return []
    return suspect_swap(Image.fromarray(raw.astype(np.uint8)), image)


def is_photograph(image: Image.Image) -> bool:
    """Whether an image has more values than drawn things have."""
    return image.mode in ("L", "RGB") and _count_values(image) >= _MANY


def _count_values(image: Image.Image) -> int:
    size = (min(_SAMPLES, image.width), min(_SAMPLES, image.height))
    pixels = np.asarray(image.resize(size, Image.Resampling.NEAREST))
    return len(np.unique(pixels.reshape(pixels.shape[0] * pixels.shape[1], -1), axis=0))


# --- in the whole set ----------------------------------------------------------------------------


def diagnose(survey: "Survey", *, advice: str) -> list[Finding]:
    """All findings of a data set, those that stop it first.

    Args:
      survey: what was seen in the files.
      advice: what can be done about labels in other ids than the expected ones.
    """
    errors = [*_suspicions(survey, stopping=True), *_ids(survey, advice)]
    warnings = [
        *_suspicions(survey, stopping=False),
        *_conversions(survey),
        *_counts(survey),
        *_classes(survey),
        *_examples(survey),
    ]
    return [Finding(True, text) for text in errors] + [Finding(False, text) for text in warnings]


def _suspicions(survey: "Survey", *, stopping: bool) -> Iterable[str]:
    for kind, seen in survey.suspicions.items():
        if stopping == _stops(survey, kind) and not _is_chance(survey, kind):
            yield f"{_listed(seen, 'label')} {SUSPICIONS[kind]}."


def _stops(survey: "Survey", kind: str) -> bool:
    return kind not in _DOUBTS or kind in survey.suspicions_of_faulty


def _is_chance(survey: "Survey", kind: str) -> bool:
    """Whether a few of many labels look like a palette's shades."""
    if kind != PALETTE_LOST or not survey.raw_ids:
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
        yield (
            f"{_listed(survey.occurrence([IGNORE_LABEL]), 'label')} seem to be masks of 0 and 255, "
            f"but 255 is no class here. Name it as an id of {last} in "
            f'classes.json, {{"name": "thing", "ids": [255]}}, with "ignore": {spare}.'
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


def _unknown_ids(survey: "Survey", unknown: Sequence[int], advice: str) -> str:
    classes = survey.labels.num_classes
    seen = _listed(survey.occurrence(unknown), "label")
    beside = survey.ids_beside_unknown
    known = survey.id_map.keys() - {IGNORE_LABEL}
    last = max(known, default=-1)
    train_ids = {*range(classes), IGNORE_LABEL}
    # A few unknown ids below the number of classes may be the mistakes of a few labels.
    telling = IGNORE_LABEL in unknown or len(unknown) > _FEW_MISTAKES
    if telling and last + 1 > classes and beside | {*unknown} <= train_ids:
        return f"{seen} were converted to train ids already (0 to {classes - 1} and 255): {advice}."
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
        return (
            f"{seen} look like Cityscapes' raw labelIds (0 to 33), where train ids (0 to 18) are "
            f"expected: give the *_labelTrainIds.png files; or {advice}."
        )
    return f"ids {_quoted(unknown)} are no class's, and not known as ignored ({seen}): {advice}."


def _is_converted(survey: "Survey") -> bool:
    """Whether all ids could be train ids where many a class's raw id is above all train ids."""
    classes = survey.labels.num_classes
    above = sum(raw >= classes for raw in survey.labels.raw_ids)
    found = survey.raw_ids.keys() - {IGNORE_LABEL}
    foreign = found - {0, *survey.labels.raw_ids}
    # Or one more, with 0 for the background.
    return bool(foreign) and max(found) <= classes and above > classes / 2


def _conversions(survey: "Survey") -> Iterable[str]:
    for note, seen in survey.notes.items():
        yield f"{_listed(seen, 'image')}: {note}."


def _counts(survey: "Survey") -> Iterable[str]:
    for split, expected in survey.expected.items():
        found = survey.splits[split].examples if split in survey.splits else None
        if found is not None and found != expected:
            yield f"split {split} has {found} examples; the published one has {expected}."


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
    for split, counted in survey.splits.items():
        if counted.unlabelled.images and counted.class_pixels.any():
            unlabelled = _listed(counted.unlabelled, "image")
            yield (
                f"split {split}: {unlabelled} without any labelled pixel: nothing is learned or "
                "scored there. Label or remove what was forgotten."
            )
        if len(counted.sizes) > 1:
            (size, count), *_ = counted.sizes.most_common(1)
            yield (
                f"split {split}: {len(counted.sizes)} sizes of images, the most frequent {size} "
                f"({count} of {counted.examples}). Training crops them to one size; for evaluation "
                "in batches config.eval.batch_size=1 wastes nothing."
            )
    for kind, seen in survey.duplicates.items():
        effect = (
            "Scores on images that were trained on say nothing: remove them from one of the two."
            if kind.startswith("in both")
            else "They count twice."
        )
        yield f"{kind}: {_listed(seen, 'pair')} of the same image. {effect}"


def _listed(seen: "Occurrence", what: str) -> str:
    plural = what if seen.images == 1 else f"{what}s"
    more = ", …" if seen.images > len(seen.files) else ""
    return f"{seen.images} {plural} ({', '.join(seen.files)}{more})"


def _quoted(things: Sequence[int | str]) -> str:
    """The first of these, and how many more there are."""
    shown = ", ".join(repr(thing) for thing in things[:_MAX_NAMES])
    return f"{shown} and {len(things) - _MAX_NAMES} more" if things[_MAX_NAMES:] else shown
