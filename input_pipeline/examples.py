"""A program's own examples in place of a prepared data set."""

import collections
import copy
import copyreg
import functools
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.images.codec import count_ids
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels, standard_color
from danet_jax.input_pipeline.storage import fingerprints
from danet_jax.input_pipeline.storage.datasets import Split
from danet_jax.input_pipeline.storage.fingerprints import Fingerprint

# The name of such data in a run's config.
OWN = "own"
# The sizes of so many examples are looked at, spread evenly: each has to be made for that.
_SIZED = 64
_DERIVED = ("fingerprint", "identity", "_some_sizes")


@runtime_checkable
class Pairs(Protocol):
    """What is asked of examples: their number, and each as (image, label)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any) -> Any: ...


class Examples(Split):
    """A split of a program's own: any object with `__len__` and `__getitem__`.

    An example is (image, label): uint8 RGB [h, w, 3], and integers [h, w] from 0 to the number of
    classes - 1, or 255 where a pixel is ignored. Examples may differ in size. `__getitem__` has to
    return the same for an index each time, as augmentation is the config's; it is called by several
    threads, and with config.data.num_workers in processes of their own.

    Args:
      pairs: the examples.
      names: a sequence of the classes' names, in the order of their ids.
      colors: of each class red, green and blue, 0 to 255; those of PASCAL VOC's palette where none
        are given.
      split: what messages and the report call it.

    Raises:
      DataError: there is no example, or names and colours are no classes.
    """

    def __init__(
        self,
        pairs: Any,
        names: Any,
        *,
        colors: Any = None,
        split: str = "own examples",
    ):
        if not isinstance(pairs, Pairs):
            raise DataError(
                f"the examples are a {type(pairs).__name__}, which has no __len__ and __getitem__: "
                "give a list of (image, label), or an object that has both"
            )
        if not len(pairs):
            raise DataError(f"there is no example in {split}")
        names = _checked_names(names)
        if colors is None:
            # Black, the first colour, looks like no label.
            colors = [standard_color(index) for index in range(1, len(names) + 1)]
        self.name, self.split = OWN, split
        self.labels = Labels(names, tuple(map(_checked_color, colors)))
        self._pairs = pairs

    def called(self, split: str) -> "Examples":
        """Returns the same examples under another name."""
        other = copy.copy(self)
        other.split = split
        for name in _DERIVED:
            vars(other).pop(name, None)
        return other

    def check_repeatable(self) -> None:
        """Raises a DataError where an example is another one each time: no run could go on."""
        if not fingerprints.agree(self.fingerprint, fingerprints.of(self)):
            raise DataError(
                f"{self.split}: an example is not the same when it is read again. Let __getitem__ "
                "return what an index stands for, and leave augmentation to config.data."
            )

    def __reduce__(self):
        # The class may be a program's own. What was derived holds the examples' names, and is
        # derived again.
        state = {name: value for name, value in vars(self).items() if name not in _DERIVED}
        return copyreg.__newobj__, (type(self),), state  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: SupportsIndex) -> dict[str, str | UInt8[np.ndarray, "..."]]:
        """Returns "id", "image" uint8 RGB [h, w, 3] and "label" uint8 [h, w] of an example.

        Raises:
          DataError: it is no pair of an image and a label that fit.
          IndexError: there is no such example.
        """
        position = operator.index(index)
        if not 0 <= position < len(self):
            raise IndexError(f"{self!r} has no example {position}")
        try:
            pair = self._pairs[position]
        except Exception as error:
            error.add_note(f"raised by example {position} of {self.split}")
            raise
        if isinstance(pair, Mapping) and {"image", "label"} <= pair.keys():
            pair = (pair["image"], pair["label"])
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise self._wrong(position, f"is a {type(pair).__name__}; give (image, label)")
        image, label = map(np.asarray, pair)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise self._wrong(
                position,
                f"has an image of {image.dtype} {list(image.shape)}; give uint8 RGB [h, w, 3]",
            )
        if not image.size:
            raise self._wrong(position, f"has an image without pixels, {list(image.shape)}")
        if label.dtype.kind not in "iu" or label.shape != image.shape[:2]:
            raise self._wrong(
                position,
                f"has a label of {label.dtype} {list(label.shape)} for an image of "
                f"{list(image.shape[:2])}; give integers of the image's height and width",
            )
        classes = self.labels.num_classes
        wrong = (label < 0) | ((label >= classes) & (label != IGNORE_LABEL))
        if wrong.any():
            raise self._wrong(
                position,
                f"has the label {label[wrong][0]}, but the classes are 0 to {classes - 1}",
            )
        return {
            "id": f"{self.split} {position}",
            "image": np.ascontiguousarray(image),
            "label": label.astype(np.uint8),
        }

    def _wrong(self, position: int, problem: str) -> DataError:
        return DataError(f"example {position} of {self.split} {problem}")

    def class_pixels(self, index: int) -> Int64[np.ndarray, " classes"]:
        """Counts the pixels of each class in example `index`."""
        return count_ids(np.asarray(self[index]["label"]))[: self.labels.num_classes]

    def __iter__(self) -> Iterator[dict[str, str | UInt8[np.ndarray, "..."]]]:
        """Without it Python would take an IndexError of a program's own for the end."""
        return (self[index] for index in range(len(self)))

    def id(self, index: int) -> str:
        """Returns the name of example `index`."""
        return f"{self.split} {index}"

    def size(self, index: int) -> tuple[int, int]:
        """Returns height and width of example `index`."""
        height, width = np.shape(self[index]["label"])
        return height, width

    def sizes(self) -> collections.Counter[tuple[int, int]]:
        """Counts the sizes (height, width) of some examples, spread evenly."""
        return collections.Counter(self._some_sizes)

    @functools.cached_property
    def _some_sizes(self) -> list[tuple[int, int]]:
        indices = np.linspace(0, len(self) - 1, _SIZED).round().astype(int)
        return [self.size(index) for index in sorted(set(indices.tolist()))]

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """What tells these examples from others."""
        return fingerprints.of(self)

    def _counted_pixels(self) -> None:
        """None: no preparation has counted them."""

    def label_checksum(self, index: int) -> int:
        """Returns a number that tells the label of example `index` from others."""
        return fingerprints.checksum(np.asarray(self[index]["label"]))

    def shared_examples(self, other: Split) -> int:
        """Returns all where both are made of the same object, else 0, as nothing tells more."""
        return len(self) if isinstance(other, Examples) and other._pairs is self._pairs else 0

    @property
    def repeated_examples(self) -> int:
        """Returns 0: nothing tells whether an example comes twice."""
        return 0

    @property
    def has_labels(self) -> bool:
        """True: an example without a label is none."""
        return True

    def refuse_mixture(self) -> None:
        """Does nothing: all have labels."""


def _checked_names(names: Any) -> tuple[str, ...]:
    wanted = "give a list of the classes' names, in the order of their ids"
    if isinstance(names, str):
        raise DataError(f"names is the text {names!r}: {wanted}")
    if isinstance(names, Mapping):
        raise DataError(f"names is a mapping: {wanted}, such as list(names.values())")
    if not isinstance(names, Sequence | np.ndarray):
        # The order of a set is another one in each process.
        raise DataError(f"names is a {type(names).__name__}: {wanted}")
    for name in names:
        if not isinstance(name, str):
            raise DataError(f"names holds {name!r}, which is no text: {wanted}")
    return tuple(map(str, names))


def _checked_color(color: Any) -> tuple[int, int, int]:
    try:
        numbers = np.asarray(color)
    except (TypeError, ValueError):
        numbers = np.array(())
    # Fractions of 0 to 1, as Matplotlib has them, would become black.
    if numbers.shape != (3,) or numbers.dtype.kind not in "iu":
        raise DataError(
            f"colors holds {color!r}: give red, green and blue as whole numbers of 0 to 255"
        )
    red, green, blue = (int(number) for number in numbers)
    return red, green, blue


def check_examples(argument: str, value: Any) -> None:
    """Raises a DataError where an argument that takes Examples is something else."""
    if not isinstance(value, Examples):
        raise DataError(
            f"{argument} is a {type(value).__name__}: give danet_jax.Examples(…, names), which "
            "says what the classes are called."
        )
