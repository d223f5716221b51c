"""classes.txt in the forms in which people and labelling tools write lists of classes."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import class_tables, odd_lines
from danet_jax.input_pipeline.builders.class_list_lines import HOW, without_comments, without_markup
from danet_jax.input_pipeline.builders.class_tables import FILE, Row

# These marks separate a number from a name. Spaces alone may belong to the name, "route 66".
_STRONG = r"\s*(?:[,;:|=\t]|->|=>)\s*"
_LEADING = re.compile(rf"(-?[0-9]+)({_STRONG}|[.)]\s+|\s+-\s+|\s+)(?=\S)")
_TRAILING = re.compile(rf"(?<=\S)({_STRONG}|\s+)(-?[0-9]+)$")
_NUMBERS = re.compile(r"[0-9]+(?:\s+[0-9]+)*")
# A line has up to four numbers, an id and a colour. QGIS adds an opacity, and ITK-SNAP two switches
# more.
_MOST_NUMBERS, _WITH_OPACITY, _WITH_SWITCHES = 4, 5, 7
_LABELMAP = re.compile(r"(.+?):([0-9]+),([0-9]+),([0-9]+)(?::[^:]*){0,2}")
# These titles are hardly names of classes, even where they stand alone.
_HEADERS = ("name", "names", "class", "classes", "labels", "classname", "labelname", "categories")
# A list of this many lines, sorted by its numbers, is taken to have ids even if nothing else tells.
_FEW = 3


def parse(text: str) -> list[dict[str, Any]]:
    """Returns the classes of a list: "name", and "color" and "ids" if the list gives them.

    A list may hold names alone; names with ids or colours before or after them, separated by
    spaces, commas, semicolons, tabs, colons or equals signs; a table with a header; or CVAT's
    labelmap.txt. Lines that begin with # are comments. Classes with ids are sorted by them.

    Raises:
      DataError: it is empty, or nothing tells which way it is meant.
    """
    lines = without_comments(text.rstrip())
    if not any(line for _, line in lines):
        raise DataError(f"{FILE}: empty; give the name of a class on each line")
    lines = without_markup(lines)
    rows = class_tables.read(lines)
    if rows is None:
        rows = _without_header(_split_all([(number, line) for number, line in lines if line]))
        odd_lines.refuse_colors_in_other_forms(rows)
    classes = _with_numbers(rows) or _with_names(rows)
    if "ids" in classes[0]:
        classes.sort(key=lambda entry: entry["ids"])
    else:
        for number, line in lines:
            if not line:
                raise DataError(f"{FILE}, line {number}: empty, but each line is a class")
    counts = collections.Counter(entry["name"] for entry in classes)
    for name, count in counts.items():
        if not name:
            raise DataError(f"{FILE}: a line has no name of a class: {HOW}")
        if count > 1 and "ids" in classes[0]:
            raise DataError(
                f"{FILE}: {name!r} is given more than once. A class of several ids is written in "
                'classes.json: {"name": "road", "ids": [7, 8]}'
            )
    return classes


def _split_all(lines: Sequence[tuple[int, str]]) -> list[Row]:
    """Splits lines into rows; more than four numbers count only if all lines have as many."""
    for most in (_WITH_SWITCHES, _WITH_OPACITY):
        rows = [_split(number, line, most) for number, line in lines]
        # The first row is left out, since it may be a header.
        if all(row.shape == (most, 0) and _is_opacity(row.before) for row in rows[1:] or rows):
            return rows
    return [_split(number, line) for number, line in lines]


def _is_opacity(numbers: Sequence[int]) -> bool:
    """Returns whether the numbers after an id and a colour are opacity, not part of a name."""
    opacity, *switches = numbers[4:]
    return {*switches} <= {0, 1} and opacity in ((0, 1, 255) if switches else (0, 255))


def _split(number: int, line: str, most: int = _MOST_NUMBERS) -> Row:
    labelmap = _LABELMAP.fullmatch(line)
    if labelmap:
        red, green, blue = map(int, labelmap.groups()[1:])
        return Row(number, line, (), labelmap[1].strip(), (red, green, blue))
    if _NUMBERS.fullmatch(line):
        return Row(number, line, (), line, (), False)
    before, rest, is_strong = _take_leading(line, most)
    after, rest, is_strong_too = _take_trailing(rest)
    name = rest.strip("\t,;| ") if before or after else rest
    if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    return Row(number, line, before, name, after, is_strong or is_strong_too)


def _take_leading(rest: str, most: int) -> tuple[tuple[int, ...], str, bool]:
    numbers: list[int] = []
    is_strong = False
    while len(numbers) < most and (match := _LEADING.match(rest)):
        is_weak = match[2].isspace() and "\t" not in match[2]
        # The 2 of "0, 2 lanes" belongs to the name.
        if is_strong and is_weak:
            break
        is_strong |= not is_weak
        numbers.append(int(match[1]))
        rest = rest[match.end() :]
    return tuple(numbers), rest, is_strong


def _take_trailing(rest: str) -> tuple[tuple[int, ...], str, bool]:
    numbers: list[int] = []
    is_strong = False
    while len(numbers) < _MOST_NUMBERS and (match := _TRAILING.search(rest)):
        is_weak = match[1].isspace() and "\t" not in match[1]
        # The 1 of "zone 1, 255, 0, 0" belongs to the name.
        if is_strong and is_weak:
            break
        is_strong |= not is_weak
        numbers.insert(0, int(match[2]))
        rest = rest[: match.start()]
    return tuple(numbers), rest, is_strong


def _without_header(rows: list[Row]) -> list[Row]:
    """Drops the first row if it names the columns."""
    first, *others = rows
    if not others:
        return rows
    words = [word for word in re.split(r"[\s,;:|=]+", first.text) if word]
    shapes = {row.shape for row in others}
    if len(shapes) == 1 and (0, 0) not in shapes and first.shape == (0, 0):
        # QGIS begins with a line of settings, INTERPOLATION:EXACT.
        if words[:1] == ["INTERPOLATION"]:
            return others
        if len(words) > 1 and class_tables.are_titles(words):
            if not any(map(class_tables.is_id, words)) or shapes - {(1, 0), (0, 1)}:
                return others
            # The title says that the numbers are ids, whatever separates them from the names.
            ids = [row.before + row.after for row in others]
            if len({*ids}) < len(ids):
                raise DataError(f"{FILE}: {first.text!r} titles a column of ids, and one is twice")
            return [dataclasses.replace(row, is_strong=True) for row in others]
        if re.search(r"[,;:|=\t]\s*\S", first.text) and others[0].is_strong:
            raise DataError(
                f"{FILE}, line {first.line}: {first.text!r} may be titles of columns or a class. "
                "Put # and a space before titles, or write all lines alike"
            )
    if re.sub(r"[\s_-]", "", first.text).lower() in _HEADERS:
        raise DataError(
            f"{FILE}, line {first.line}: {first.text!r} looks like the header of a table, not like "
            "a class. Remove the line, or name the classes in classes.json"
        )
    return rows


def _with_numbers(rows: Sequence[Row]) -> list[dict[str, Any]] | None:
    """Returns classes if all rows have ids or colours in the same places, else None."""
    rows = _without_opacity(rows)
    shapes = {row.shape for row in rows}
    are_strong = all(row.is_strong for row in rows)
    if len(shapes) > 1:
        if shapes == {(0, 0), (0, 3)}:
            return [_entry(row.name.rstrip("\t,;:|= "), None, row.after) for row in rows]
        ids = [row.before[0] for row in rows if len(row.before) == 1]
        if shapes == {(1, 0), (1, 3)} and are_strong and _are_ids(ids, rows):
            # Some classes have no colour.
            return [_entry(row.name, row.before[0], row.after) for row in rows]
        odd_lines.refuse_mixture(rows)
        return None
    shape = shapes.pop()
    if shape == (0, 0):
        return [{"name": row.name} for row in rows] if are_strong else None
    if shape == (0, 3) or (shape == (3, 0) and _are_colors(row.before for row in rows)):
        return [_entry(row.name, None, row.before + row.after) for row in rows]
    if shape == (4, 0) and not are_strong:
        odd_lines.refuse_fifth_number(rows)
    numbers = [row.before + row.after for row in rows]
    if shape in ((0, 4), (4, 0)) and len(rows) > 1 and {values[3] for values in numbers} == {255}:
        if _are_counted([values[0] for values in numbers]):
            odd_lines.refuse_opacity_or_blue(rows)
        if are_strong and _are_colors(numbers):
            return [_entry(row.name, None, row.before[:3] + row.after[:3]) for row in rows]
    column = _column_of_ids(shape, numbers)
    if column is None and shape == (0, 4) and len({values[3] for values in numbers}) == 1:
        # The fourth number is an opacity.
        return [_entry(row.name, None, row.after[:3]) for row in rows]
    if column is not None:
        ids = [values[column] for values in numbers]
        if _are_ids(ids, rows):
            return [
                _entry(row.name, id, values[:column] + values[column + 1 :])
                for row, id, values in zip(rows, ids, numbers, strict=True)
            ]
    if all(re.search(r"[,;|\t]", row.text) for row in rows):
        raise DataError(
            f"{FILE}, line {rows[0].line}: the numbers of {rows[0].text!r} and of the other lines "
            f"are neither ids nor colours, or one occurs twice: {HOW}"
        )
    return None


def _without_opacity(rows: Sequence[Row]) -> Sequence[Row]:
    """Drops the opacity of rows that all have an id, a colour and one: "1 255 0 0 255 road"."""
    shapes = {row.shape for row in rows}
    is_known = (
        shapes <= {(_WITH_SWITCHES, 0)} or shapes <= {(_WITH_OPACITY, 0)} or shapes <= {(1, 4)}
    )
    if not is_known or not all(_is_opacity(row.before + row.after) for row in rows):
        return rows
    return [dataclasses.replace(row, before=row.before[:4], after=row.after[:3]) for row in rows]


def _column_of_ids(shape: tuple[int, int], numbers: Sequence[tuple[int, ...]]) -> int | None:
    """Returns which of a row's numbers is the id; None if none is, or nothing tells."""
    columns_by_shape = {(1, 0): 0, (0, 1): 0, (1, 3): 0, (4, 0): 0, (3, 1): 3}
    if shape == (0, 4):
        columns = list(zip(*numbers, strict=True))
        return next((column for column in (0, 3) if _are_counted(columns[column])), None)
    return columns_by_shape.get(shape)


def _are_ids(ids: Sequence[int], rows: Sequence[Row]) -> bool:
    """Tells ids from numbers that are parts of names, as in "1 cent", "2 cent", "5 cent"."""
    names = {row.name for row in rows}
    if len({*ids}) < len(rows) or (len(names) < len(rows) and not _is_table(rows)):
        return False
    are_strong = all(row.is_strong for row in rows)
    is_list = len(rows) >= _FEW and bool(rows[0].before) and list(ids) == sorted(ids)
    return are_strong or _are_counted(ids) or is_list


def _is_table(rows: Sequence[Row]) -> bool:
    return all(re.search(r"[,;|\t]", row.text) for row in rows)


def _are_counted(ids: Sequence[int]) -> bool:
    return len(ids) > 1 and any({*ids} == {*range(s, s + len(ids))} for s in (0, 1))


def _are_colors(colors: Any) -> bool:
    return all(value <= 255 for color in colors for value in color)


def _entry(name: str, id: int | None, color: Sequence[int]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name}
    if id is not None:
        entry["ids"] = [id]
    if color:
        entry["color"] = list(color)
    return entry


def _with_names(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Returns classes of rows that are names, some followed by the three numbers of a colour."""
    odd_lines.refuse_odd(rows)
    classes = []
    for row in rows:
        *words, red, green, blue = ["", "", "", *row.text.split()]
        if any(words) and all(word.isdecimal() for word in (red, green, blue)):
            classes.append(
                _entry(" ".join(words).strip(), None, tuple(map(int, (red, green, blue))))
            )
        else:
            classes.append({"name": row.name if row.shape == (0, 0) else row.text})
    names = [entry["name"] for entry in classes]
    numbers = {name.split()[0].strip(":.,") for name in names if len(name.split()) > 1}
    counted = ({str(first + index) for index in range(len(names))} for first in (0, 1))
    if len(names) > 1 and numbers in counted:
        raise DataError(
            f"{FILE}: each line begins with a number, and nothing tells whether these are ids: "
            "leave the numbers out, or give ids in classes.json"
        )
    if all(re.search(r",\s*\d", name) for name in names):
        raise DataError(f"{FILE}: commas in each line; colours are written road 128 64 128")
    are_positions = names == [str(index) for index in range(len(names))]
    if all(map(str.isdecimal, names)) and "color" in classes[0] and not are_positions:
        raise DataError(
            f"{FILE}: a number and a colour in each line, and nothing tells whether the number is "
            "the id or the name: write both, 1 255 0 0 road"
        )
    if (
        len(names) > 2
        and names[0] == str(len(names) - 1)
        and not any(map(str.isdecimal, names[1:]))
    ):
        raise DataError(
            f"{FILE}, line {rows[0].line}: {names[0]!r} seems to be the number of classes. "
            "Remove the line, or name the classes in classes.json"
        )
    if len(names) == 1 and re.search(r"\S[,;\t].*\S[,;\t]\s*\S", names[0]):
        raise DataError(f"{FILE}: one line of several names; give each a line of its own")
    return classes
