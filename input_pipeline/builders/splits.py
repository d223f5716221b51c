"""Splits as config.data names them, "train[:100]+train_extra", and which of them a set has."""

from collections.abc import Mapping

import tensorflow_datasets as tfds

from danet_jax.base.errors import DataError

_HOW = 'write "train", "train[:100]", "train[10%:]" or "train+train_extra"'


def parts_of(split: str) -> list[str]:
    """Returns the names of the splits in "train[:100]+train_extra"."""
    return [part.partition("[")[0] for part in split.split("+")]


def check_form(split: str) -> None:
    """Raises a DataError for a text that cannot name splits or parts of splits."""
    try:
        tfds.core.ReadInstruction.from_spec(split)
    except (ValueError, AssertionError):
        raise DataError(
            f"config.data asks for split {split!r}, which is not a split: {_HOW}"
        ) from None


def problem_of(split: str, counts: Mapping[str, int], *, source: str) -> str | None:
    """Returns a sentence on what is wrong with a split of a data set to be made, else None.

    Args:
      split: a split as in config.data, which `check_form` accepts.
      counts: the number of examples of each split.
      source: a description of the source folder.
    """
    for part in parts_of(split):
        if not counts.get(part):
            return (
                f"no images of split {part!r}, which config.data asks for: choose another, or give "
                f"it; the source is {source}"
            )
    infos = tfds.core.splits.SplitDict(
        [
            tfds.core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0)
            for name, count in counts.items()
        ]
    )
    asked = f"config.data asks for {split!r}"
    there = ", ".join(f"{count} {name}" for name, count in counts.items())
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, AssertionError):
        return f"{asked}, but there are only {there}"
    # The end of a whole split is None.
    ends = (counts[part.splitname] if part.to is None else part.to for part in instructions)
    if all(end <= (part.from_ or 0) for part, end in zip(instructions, ends, strict=True)):
        return f"{asked}, which selects no example of {there}"
    return None
