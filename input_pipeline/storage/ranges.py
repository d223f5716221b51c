"""Which examples of a data set's splits a text such as "train[:80%]+val" selects."""

from collections.abc import Mapping

import tensorflow_datasets as tfds

# (split, index of the first example, index after the last one) of each part.
Ranges = tuple[tuple[str, int, int], ...]


def of(split: str, counts: Mapping[str, int]) -> Ranges:
    """Returns the parts of a split, for data with so many examples in each whole split."""
    infos = tfds.core.splits.SplitDict(
        [
            tfds.core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0)
            for name, count in counts.items()
        ]
    )
    instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    return tuple(
        (
            part.splitname,
            part.from_ or 0,
            counts[part.splitname] if part.to is None else part.to,
        )
        for part in instructions
    )


def shared(one: Ranges, other: Ranges) -> int:
    """Counts the examples that are in both."""
    return len(_examples(one) & _examples(other))


def repeated(ranges: Ranges) -> int:
    """Counts how many times an example that was there before comes again."""
    return sum(end - start for _, start, end in ranges) - len(_examples(ranges))


def _examples(ranges: Ranges) -> set[tuple[str, int]]:
    return {(name, index) for name, start, end in ranges for index in range(start, end)}
