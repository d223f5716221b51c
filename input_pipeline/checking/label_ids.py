"""Judges a whole data set whose labels hold other ids than the expected ones."""

from collections.abc import Iterable, Sequence

from danet_jax.base.wording import counted
from danet_jax.input_pipeline.checking import mistakes, wording
from danet_jax.input_pipeline.checking.survey import Survey
from danet_jax.input_pipeline.labels import IGNORE_LABEL

_CITYSCAPES_LABEL_IDS = range(34)
_FEW_MISTAKES = 2
# An object that is hidden by others leaves a gap in the numbers.
_DENSE, _MOSTLY = 0.7, 0.8


def diagnose_ids(survey: Survey, *, advice: str) -> Iterable[str]:
    """Yields at most one sentence, on labels with other ids than the expected ones.

    Args:
      survey: the counts of the data set.
      advice: the remedy for such labels.
    """
    if not survey.raw_ids:
        return
    classes = survey.labels.num_classes
    unknown = survey.unknown_ids
    last, spare = ("the second class", "[]") if classes == 2 else ("the class", "[0]")
    if (
        classes <= 2
        and survey.raw_ids.keys() == {0, IGNORE_LABEL}
        and survey.id_map.get(IGNORE_LABEL, IGNORE_LABEL) == IGNORE_LABEL
    ):
        masks = wording.of_labels(survey.occurrence([IGNORE_LABEL]), "hold 0 and 255, as masks do")
        yield (
            f"{masks}, but 255 is no class here. Name it as an id of {last} in "
            f'classes.json, {{"name": "thing", "ids": [255]}}, with "ignore": {spare}.'
        )
    elif unknown and _are_objects(survey):
        numbered = wording.of_labels(survey.occurrence(unknown), "seem to number objects")
        yield (
            f"{numbered}: the ids count from 1 to a different number in each label, but "
            f"{counted(classes, 'class', 'classes')} are known. A label holds one number for "
            "each class, not for each object (instance): give every object the id of its class."
        )
    elif unknown:
        yield _unknown_ids(survey, unknown, advice)
    elif _is_converted(survey):
        yield (
            f"{wording.listed(survey.occurrence(list(survey.raw_ids)), 'label')} and all others "
            f"seem to hold train ids (0 to {classes - 1}) instead of raw ids: {advice}."
        )
    elif not survey.class_pixels().any():
        shown = wording.quoted(sorted(survey.raw_ids))
        yield f"no label has a pixel of any class; all are {shown}, which is ignored: {advice}."


def _are_objects(survey: Survey) -> bool:
    """Returns whether unknown ids are instances: 1, 2, 3, … with hardly a gap, up to any number.

    Classes that are missing in the list would leave gaps, or always end at the same number.
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


def doubt_numbered_objects(survey: Survey) -> Iterable[str]:
    """Yields at most one sentence, on known ids that seem to number objects."""
    ends = survey.ends_of_counting
    if survey.unknown_ids or not mistakes.are_numbered_objects(ends, survey.not_counting):
        return
    counting = wording.of_labels(survey.counting, "hold 1, 2, 3, … without a gap")
    yield (
        f"{counting}, and end at different "
        f"numbers ({min(ends)} to {max(ends)}), as if the objects of each image were numbered "
        "(instances). If that is so, give every object the id of its class; nothing can be learned "
        "from such numbers."
    )


def _unknown_ids(survey: Survey, unknown: Sequence[int], advice: str) -> str:
    classes = survey.labels.num_classes
    occurrence = survey.occurrence(unknown)
    labels = wording.listed(occurrence, "label")
    ids_beside = survey.ids_beside_unknown
    known = survey.id_map.keys() - {IGNORE_LABEL}
    last = max(known, default=-1)
    train_ids = {*range(classes), IGNORE_LABEL}
    # A few unknown ids below the number of classes may be mistakes in a few labels.
    is_conclusive = IGNORE_LABEL in unknown or len(unknown) > _FEW_MISTAKES
    if is_conclusive and last + 1 > classes and ids_beside | {*unknown} <= train_ids:
        converted = wording.of_labels(occurrence, "were converted to train ids already")
        return f"{converted} (0 to {classes - 1} and 255): {advice}."
    occurring = survey.raw_ids.keys() - {IGNORE_LABEL}
    ignored = max(
        (raw for raw, train in survey.id_map.items() if train == IGNORE_LABEL),
        default=IGNORE_LABEL,
    )
    nonzero_unknown = {*unknown} - {0, IGNORE_LABEL}
    shifted = bool(nonzero_unknown) and all(id - 1 in known for id in occurring - {0})
    if shifted and 0 not in occurring:
        return (
            f"ids {min(occurring)} to {max(occurring)} occur and never 0: they are shifted by one "
            f"({labels}). Subtract 1 from all but 255, or {advice}."
        )
    if shifted and survey.id_map.get(0) != IGNORE_LABEL:
        meaning = f"stands for background or unlabelled pixels, which are {ignored} here ({labels})"
        correction = f"make that into {ignored} and subtract 1 from all others but 255; or {advice}"
        if unknown == [last + 1] and known == {*range(last + 1)}:
            return (
                f"ids 0 to {last + 1} occur, one more than are known: 0 or {last + 1} {meaning}. "
                f"If {last + 1} does, make that into {ignored}; if 0 does, {correction}."
            )
        return f"all ids but 0 are shifted by one; 0 {meaning}: {correction}."
    if classes == 19 and last < 33 and ids_beside <= {*_CITYSCAPES_LABEL_IDS, IGNORE_LABEL}:
        raw = wording.of_labels(occurrence, "look like Cityscapes' raw labelIds")
        return (
            f"{raw} (0 to 33), where train ids (0 to 18) are expected: give the "
            f"*_labelTrainIds.png files; or {advice}."
        )
    if len(unknown) == 1:
        subject = f"id {unknown[0]} belongs to no class, and is"
    else:
        subject = f"ids {wording.quoted(unknown)} belong to no class, and are"
    return f"{subject} not ignored ({labels}): {advice}."


def _is_converted(survey: Survey) -> bool:
    """Returns whether ids look like train ids although most raw ids are higher than those."""
    classes = survey.labels.num_classes
    above = sum(raw >= classes for raw in survey.labels.raw_ids)
    occurring = survey.raw_ids.keys() - {IGNORE_LABEL}
    foreign = occurring - {0, *survey.labels.raw_ids}
    # The highest id is the number of classes where 0 was made the background.
    return bool(foreign) and max(occurring) <= classes and above > classes / 2
