"""What a JSON file has to look like, written down as a table of its fields.

A shape is a function of a value and its place, such as `splits.train.examples`; it raises Wrong
where the value is none that fits, and says what would. `fields`, `list_of` and `map_of` make shapes
of shapes:

    fields({"names": list_of(text), "part": one_of("network", "backbone")})
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from danet_jax.base.texts import one_line

Shape = Callable[[Any, str], None]
# Larger whole numbers are not exact in float64, and soon exceed int64.
_LARGEST = 2**53


class Wrong(ValueError):
    """A value does not fit: its place, what it is, and what it has to be."""


def anything(value: Any, path: str) -> None:
    """Fits every value."""


def text(value: Any, path: str) -> None:
    _check(isinstance(value, str), value, path, "a text")


def truth(value: Any, path: str) -> None:
    _check(isinstance(value, bool), value, path, "true or false")


def whole(least: int = 0, most: int = _LARGEST) -> Shape:
    """Fits whole numbers in a range."""
    words = (
        f"a whole number from {least} to {most}"
        if most < _LARGEST
        else (f"a whole number, {least} or more")
    )

    def check(value: Any, path: str) -> None:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        _check(is_whole and least <= value <= most, value, path, words)

    return check


def number(value: Any, path: str) -> None:
    """Fits numbers that are finite."""
    _check(_is_number(value) and math.isfinite(value), value, path, "a number")


def any_number(value: Any, path: str) -> None:
    """Fits all numbers, including infinite ones and NaN, which JSON does not know."""
    _check(_is_number(value), value, path, "a number")


def one_of(*allowed: Any) -> Shape:
    def check(value: Any, path: str) -> None:
        _check(value in allowed, value, path, " or ".join(map(json.dumps, allowed)))

    return check


def matching(pattern: str, words: str) -> Shape:
    """Fits texts that match the whole pattern."""

    def check(value: Any, path: str) -> None:
        fits = isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII)
        _check(bool(fits), value, path, words)

    return check


def optional(shape: Shape) -> Shape:
    """Fits null, too."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            shape(value, path)

    return check


def list_of(shape: Shape, *, least: int = 0, most: int = _LARGEST) -> Shape:
    """Fits lists with a number of entries in a range."""

    def check(value: Any, path: str) -> None:
        _check(isinstance(value, list), value, path, "a list")
        if not least <= len(value) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            wanted = f"{least} or more" if most == _LARGEST else wanted
            raise Wrong(f"{path} has {len(value)} entries; it takes {wanted}")
        for index, item in enumerate(value):
            shape(item, f"{path}[{index}]")

    return check


def map_of(shape: Shape, *, keys: Shape = anything) -> Shape:
    """Fits objects with any names, whose values have one shape."""

    def check(value: Any, path: str) -> None:
        _check(isinstance(value, dict), value, path, "an object, {…}")
        for name, item in value.items():
            keys(name, f"the name {one_line(json.dumps(name), longest=40)} in {path or 'it'}")
            shape(item, _join(path, name))

    return check


def fields(required: Mapping[str, Shape], others: Mapping[str, Shape] | None = None) -> Shape:
    """Fits objects that have the required fields.

    Further fields fit if they have the shape given in `others`, or are not named there.
    """
    known = {**required, **(others or {})}

    def check(value: Any, path: str) -> None:
        _check(isinstance(value, dict), value, path, "an object, {…}")
        for name in required:
            if name not in value:
                raise Wrong(f"{_join(path, name)} is missing")
        for name, shape in known.items():
            if name in value:
                shape(value[name], _join(path, name))

    return check


def same_length(shape: Shape, *names: str) -> Shape:
    """Fits what the shape fits if the lists of these names have the same length."""

    def check(value: Any, path: str) -> None:
        shape(value, path)
        lengths = {name: len(value[name]) for name in names}
        if len(set(lengths.values())) > 1:
            described = ", ".join(f"{_join(path, name)} has {n}" for name, n in lengths.items())
            raise Wrong(f"{described} entries; they take the same number")

    return check


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _join(path: str, name: str) -> str:
    shown = one_line(name, longest=60)
    return f"{path}.{shown}" if path else shown


def _check(fits: bool, value: Any, path: str, wanted: str) -> None:
    if not fits:
        raise Wrong(f"{path or 'all of it'} is {_shown(value)}; it takes {wanted}")


def _shown(value: Any) -> str:
    """Shortens a value as JSON."""
    if isinstance(value, dict | list):
        kind = "an object" if isinstance(value, dict) else "a list"
        return f"{kind} of {len(value)}"
    return one_line(json.dumps(value), longest=60)
