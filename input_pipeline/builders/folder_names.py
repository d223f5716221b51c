"""Which label belongs to which image, by their names."""

import collections
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

_SAMPLES = 5
_NEAR = 1000
# Up to 50 candidates of each split are tried on 100 images. The best five of all are then counted
# on all images.
_CANDIDATES, _TRIED = 50, 100
_COUNTED = 5
_LABEL_STUDIO = re.compile(r"task-\d+-annotation-\d+-by-\d+-tag-", re.IGNORECASE)


class Affixes(NamedTuple):
    """What the names of images and labels have before and after the part that they share."""

    image_before: str = ""
    image_after: str = ""
    label_before: str = ""
    label_after: str = ""

    def core(self, image: str) -> str | None:
        """Returns the shared part of the name of an image; None if it has not these affixes."""
        before, after, *_ = self
        is_like = image.startswith(before) and image.endswith(after)
        core = image[len(before) : len(image) - len(after)]
        return core if is_like and len(image) > len(before) + len(after) else None

    def label(self, image: str) -> str | None:
        """Returns the path of the label of an image, without extension."""
        folder, name = os.path.split(image)
        core = self.core(name)
        if core is None:
            return None
        return os.path.join(folder, f"{self.label_before}{core}{self.label_after}")

    @property
    def is_plain(self) -> bool:
        """Whether only labels have an affix, and only at the end."""
        return not (self.image_before or self.image_after or self.label_before)


def stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def find_ids(
    splits: Mapping[str, tuple[Sequence[str], Sequence[str]]],
) -> dict[str, dict[str, tuple[str, str | None]]]:
    """Returns for each split and image its id, and the path of its label without extension.

    The id is the path without extension, or with it if labels keep it ("a.jpg.png").

    Args:
      splits: the paths of images and of labels below a split's folders.
    """
    ids_of_splits: dict[str, dict[str, tuple[str, str | None]]] = {}
    most_hits: dict[str, int] = {}
    for key in (stem, str):
        keys = [
            ([key(name) for name in images], {stem(name) for name in labels})
            for images, labels in splits.values()
        ]
        affixes = _find_affixes(keys)
        for (split, (images, _)), (ids, stems), chosen in zip(
            splits.items(), keys, affixes, strict=True
        ):
            wanted = {name: (id, chosen.label(id)) for name, id in zip(images, ids, strict=True)}
            hits = len({label for _, label in wanted.values()} & stems)
            if split not in ids_of_splits or hits > most_hits[split]:
                ids_of_splits[split], most_hits[split] = wanted, hits
    return ids_of_splits


def _find_affixes(splits: Sequence[tuple[Sequence[str], set[str]]]) -> list[Affixes]:
    """Returns for each split the affixes that pair the most images and labels.

    If images have an affix, too, it has to pair at least two of them, so that two files which only
    happen to resemble each other are no pair.
    """
    candidates = {Affixes()}
    for images, labels in splits:
        candidates |= set(_candidates(images, labels))
    # Most candidates match no label. Trying them on a part of the images shows which, and saves the
    # time of the rest.
    few = [(_spread(images, _TRIED), labels) for images, labels in splits]
    tried = {affixes: sum(_hits(affixes, *split) for split in few) for affixes in candidates}
    best = sorted(tried, key=lambda affixes: (-tried[affixes], sum(map(len, affixes)), affixes))
    candidates = {Affixes(), *best[:_COUNTED]}
    hits = {affixes: [_hits(affixes, *split) for split in splits] for affixes in candidates}
    allowed = [affixes for affixes in candidates if affixes.is_plain or sum(hits[affixes]) > 1]

    def rank(affixes: Affixes, split: int) -> tuple:
        return hits[affixes][split], -sum(map(len, affixes)), affixes.is_plain, affixes

    return [max(allowed, key=lambda affixes: rank(affixes, split)) for split in range(len(splits))]


def _hits(affixes: Affixes, images: Iterable[str], labels: set[str]) -> int:
    return sum(affixes.label(name) in labels for name in images)


def _spread(names: Sequence[str], number: int) -> Sequence[str]:
    """Returns that many of the names, evenly spaced."""
    return names[:: max(1, len(names) // number)][:number]


def _candidates(images: Sequence[str], labels: Iterable[str]) -> list[Affixes]:
    by_folder = collections.defaultdict(list)
    for label in sorted(labels):
        folder, name = os.path.split(label)
        by_folder[folder].append(name)
    counts: collections.Counter[Affixes] = collections.Counter()
    positions = {image: position / len(images) for position, image in enumerate(images)}
    for image in _spread(images, _SAMPLES):
        folder, name = os.path.split(image)
        near = _near(name, by_folder[folder], positions[image])
        counts.update({affixes for label in near for affixes in _between(name, label)})
    most = sorted(counts, key=lambda affixes: (-counts[affixes], sum(map(len, affixes)), affixes))
    return most[:_CANDIDATES]


def _near(image: str, labels: Sequence[str], position: float) -> Sequence[str]:
    """Returns labels that may belong to an image: by its number, or by its position."""
    number = max(re.findall(r"\d+", image), key=len, default="")
    labels = [label for label in labels if number in label] or labels
    start = max(0, int(position * len(labels)) - _NEAR // 2)
    return labels[start : start + _NEAR]


def _between(image: str, label: str) -> Iterable[Affixes]:
    """Yields affixes that make two names a pair, by a shared beginning, end or number."""
    begin = _length_shared(image, label)
    end = _length_shared(image[::-1], label[::-1])
    if begin:
        yield from _plausible(image[:begin], Affixes("", image[begin:], "", label[begin:]))
    if end:
        core = image[len(image) - end :]
        yield from _plausible(core, Affixes(image[:-end], "", label[: len(label) - end], ""))
    # "img_0001_left" and "mask_0001_ids" share a number, which stands between other things.
    for number in re.findall(r"\d+", image):
        if label.count(number) == image.count(number) == 1:
            before, after = image.split(number)
            label_before, label_after = label.split(number)
            yield from _plausible(number, Affixes(before, after, label_before, label_after))


def _length_shared(a: str, b: str) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((index for index, (x, y) in pairs if x != y), min(len(a), len(b)))


def _plausible(core: str, affixes: Affixes) -> Iterable[Affixes]:
    """Yields the affixes, unless they cut a number in two or share nothing distinctive."""
    starts, ends = core[:1].isdigit(), core[-1:].isdigit()
    befores, afters = (affixes[0], affixes[2]), (affixes[1], affixes[3])
    cuts = (starts and any(text[-1:].isdigit() for text in befores)) or (
        ends and any(text[:1].isdigit() for text in afters)
    )
    if not cuts and any(letter.isalnum() for letter in core):
        yield affixes


def explain(split: str, images: Sequence[str], labels: Sequence[str], pairs: int) -> str | None:
    """Returns a sentence on names of which few or none are pairs, None if most are.

    Args:
      split: "train", …
      images, labels: by their paths below the split's folders.
      pairs: how many of the images have a label.
    """
    regions = [name for name in labels if _LABEL_STUDIO.match(os.path.basename(name))]
    if regions:
        return (
            f"labels/{split}: {len(regions)} files like {regions[0]} are masks of Label Studio, "
            "one mask for each region of an image: merge those of an image into one label, whose "
            "pixels are numbers of classes, and give it the name of the image"
        )
    stems = {stem(name) for name in images}
    of_image = collections.Counter(
        image for name in labels if (image := _image_of(stem(name), stems)) is not None
    )
    several = [image for image, count in of_image.items() if count > 1]
    if len(labels) > len(images) and 2 * len(several) > len(images):
        image = min(several)
        shown = sorted(name for name in labels if _image_of(stem(name), stems) == image)
        return (
            f"labels/{split}: several files for one image, {', '.join(shown[:3])}. Leave one label "
            "for each image: move the other kinds out of the folder, or merge masks of one class "
            "each into one label, whose pixels are numbers of classes"
        )
    if 2 * pairs >= len(images):
        return None
    folded = {stem(name).casefold(): name for name in labels}
    alike = [name for name in images if stem(name).casefold() in folded]
    if alike and 2 * len(alike) >= len(images):
        image, label = alike[0], folded[stem(alike[0]).casefold()]
        return (
            f"images/{split} and labels/{split}: names that differ only in upper and lower case, "
            f"{image} and {label}. Rename them: a label has exactly the name of its image"
        )
    return (
        f"images/{split} and labels/{split}: the names differ too much to tell which belong "
        f"together, {', '.join(images[:2])} and {', '.join(labels[:2])}. Rename them: "
        "a label has the name of its image, except for one ending or beginning that all labels "
        "share"
    )


def _image_of(label: str, images: set[str]) -> str | None:
    """Returns the longest name of an image that begins a label's name up to a separator."""
    ends = [len(label), *(match.start() for match in re.finditer(r"[_\-. ]", label))]
    matches = (label[:end] for end in sorted(ends, reverse=True) if label[:end] in images)
    return next(matches, None)
