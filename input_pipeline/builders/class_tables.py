"""Lists of classes that are tables: each line has the same columns, and there may be a header."""

import csv
import dataclasses
import re
from collections.abc import Iterable, Sequence

from danet_jax.base.errors import DataError

FILE = "classes.txt"
_SEPARATORS = "\t;|,"
_RED, _GREEN, _BLUE = ("r", "red"), ("g", "green"), ("b", "blue")
_COLOR = ("color", "colour", "rgb", "hex", "colorrgb", "colourrgb")
_ID = (
    *("id", "ids", "idx", "index", "value", "pixel", "pixelvalue", "classid", "labelid", "rawid"),
    *("categoryid", "classindex", "labelvalue", "number", "no", "nr", "code", "trainid", "dn"),
    *("gridcode", "gray", "grey", "grayvalue", "greyvalue"),
)
# If a table has several of these columns, the first one in this list holds the names.
_NAME = (
    *("name", "names", "classname", "labelname", "categoryname", "class", "classes", "label"),
    *("labels", "category", "categories", "title", "description"),
)
_TITLES = frozenset((*_RED, *_GREEN, *_BLUE, *_COLOR, *_ID, *_NAME))
_NUMBER = re.compile(r"-?[0-9]+")
# So many numbers can stand beside a name: none, an id, a colour, both, or both and an opacity.
_COUNTS = (0, 1, 3, 4, 5)
_THREE_NUMBERS = re.compile(r"([0-9]+)[\s,;]+([0-9]+)[\s,;]+([0-9]+)")
_HEX = re.compile(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})(?:[0-9a-f]{2})?", re.IGNORECASE)
_BARE_HEX = re.compile("[0-9a-f]{6}(?:[0-9a-f]{2})?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a list: the numbers before a name, the name, and the numbers after it.

    `is_strong` says whether something other than spaces separates them.
    """

    line: int
    text: str
    before: tuple[int, ...]
    name: str
    after: tuple[int, ...]
    is_strong: bool = True

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.before), len(self.after)


def are_titles(words: Iterable[str]) -> bool:
    """Returns whether all words are usual titles of columns."""
    return all(_plain(word) in _TITLES for word in words)


def is_id(word: str) -> bool:
    """Returns whether a word is a usual title of a column of ids."""
    return _plain(word) in _ID


def read(lines: Sequence[tuple[int, str]]) -> list[Row] | None:
    """Returns the rows of a table, without its header; None if the lines are no table.

    Args:
      lines: the number and the text of each line.

    A class may have no colour, where the colours are one column; all other numbers are there.

    Raises:
      DataError: its header names two columns of ids, or a column of numbers has gaps.
    """
    lines = [(number, line) for number, line in lines if line]
    for separator in _SEPARATORS:
        cells = [_cells(line, separator) for _, line in lines]
        width = len(cells[0])
        if width < 2 or any(len(row) != width for row in cells):
            continue
        columns = [column for column in zip(*cells, strict=True) if any(column)]
        rows = _rows(lines, columns)
        if rows is not None:
            return rows
    return None


def _cells(line: str, separator: str) -> list[str]:
    (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    return [cell.strip() for cell in cells]


def _rows(lines: Sequence[tuple[int, str]], columns: list[tuple[str, ...]]) -> list[Row] | None:
    titles = [column[0] for column in columns]
    _refuse_gaps(lines, columns)
    below = [column[1:] for column in columns]
    if len(lines) > 1 and any(map(_plain, titles)):
        if are_titles(titles):
            return _titled(lines, columns, are_all_known=True)
        numeric = [all(map(_NUMBER.fullmatch, cells)) for cells in below]
        if any(
            is_number and not re.match(r"[+-]?[0-9]", title)
            for is_number, title in zip(numeric, titles, strict=True)
        ):
            rows = _titled(lines, columns, are_all_known=False)
            return rows or _untitled(lines[1:], below)
    return _untitled(lines, columns)


def _refuse_gaps(lines: Sequence[tuple[int, str]], columns: list[tuple[str, ...]]) -> None:
    """Raises a DataError if a cell is empty where the other lines have a number."""
    titles = {_plain(column[0]) for column in columns}
    is_understood = bool(titles & {*_NAME} and titles & {*_ID, *_RED, *_COLOR})
    for first, *below in columns:
        is_other = is_understood and _plain(first) not in _TITLES  # A column of remarks.
        cells = [cell for cell in below if cell]
        if is_other or not cells or not all(map(_NUMBER.fullmatch, cells)):
            continue
        gaps = [line for line, cell in zip(lines, (first, *below), strict=True) if not cell]
        if gaps:
            number, line = gaps[0]
            raise DataError(
                f"{FILE}, line {number}: {line!r} has an empty cell where other lines have a "
                f"number, {cells[0]}. Fill all cells of that column, or leave the column out; or "
                "name the classes in classes.json"
            )


def _color(cell: str) -> tuple[int, ...] | None:
    """Returns the colour in a cell, () if it is empty, None if it holds something else."""
    if match := _THREE_NUMBERS.fullmatch(cell):
        return tuple(map(int, match.groups()))
    if match := _HEX.fullmatch(cell):
        return tuple(int(value, 16) for value in match.groups())
    return None if cell else ()


def _colors(column: Sequence[str]) -> list[tuple[int, ...]] | None:
    """Returns the colours in a column of colours and empty cells; None for other columns."""
    colors = [color for color in map(_color, column) if color is not None]
    return colors if len(colors) == len(column) and any(colors) else None


def _titled(
    lines: Sequence[tuple[int, str]], columns: list[tuple[str, ...]], *, are_all_known: bool
) -> list[Row] | None:
    """Returns rows by the titles of their columns; None if the titles do not tell."""
    by_title = {_plain(title): cells for title, *cells in columns}
    are_numbers = {title: all(map(_NUMBER.fullmatch, cells)) for title, cells in by_title.items()}
    texts = [title for title, is_number in are_numbers.items() if not is_number]
    names = [title for title in _NAME if title in texts]
    ids = [title for title in by_title if title in _ID and are_numbers[title]]
    # A column "class" of numbers beside one of names holds ids.
    ids = ids or [title for title in _NAME if are_numbers.get(title)]
    channels = [
        next((by_title[title] for title in channel if are_numbers.get(title)), None)
        for channel in (_RED, _GREEN, _BLUE)
    ]
    for channel in (_RED, _GREEN, _BLUE):
        for title in channel:
            if title in texts and any(re.search("[0-9]", cell) for cell in by_title[title]):
                raise DataError(
                    f"{FILE}: the column {title} holds other than whole numbers, such as "
                    f"{next(filter(None, by_title[title]))!r}; colours go from 0 to 255"
                )
    column = next((by_title[title] for title in _COLOR if title in by_title), [])
    # Under such a title six digits are a colour also without the sign.
    column = [f"#{cell}" if _BARE_HEX.fullmatch(cell) else cell for cell in column]
    colors = _colors(column)
    if colors is None and any(re.search("[0-9]", cell) for cell in column):
        index = next(index for index, cell in enumerate(column) if _color(cell) is None)
        raise DataError(
            f"{FILE}, line {lines[index + 1][0]}: {column[index]!r} is no colour; write three "
            "numbers as in the other lines, or leave the cell empty"
        )
    if len(ids) > 1:
        raise DataError(
            f"{FILE}, line {lines[0][0]}: {' and '.join(ids)} are both columns of numbers; leave "
            "only the one whose numbers stand in the labels"
        )
    if not names and len(texts) == 1:
        names = texts
    if not names or not (are_all_known or ids or all(channels) or column):
        return None
    rows = []
    for index, (number, line) in enumerate(lines[1:]):
        after: tuple[int, ...] = ()
        if all(channels):
            after = tuple(int(cells[index]) for cells in channels if cells)
        elif colors:
            after = colors[index]
        before = tuple(int(by_title[title][index]) for title in ids)
        rows.append(Row(number, line, before, by_title[names[0]][index], after))
    return rows


def _untitled(lines: Sequence[tuple[int, str]], columns: list[tuple[str, ...]]) -> list[Row] | None:
    """Returns rows of one column of names and further columns of numbers; None for others."""
    parts: list[list[tuple[int, ...]]] = []
    names: list[int] = []
    for position, column in enumerate(columns):
        if all(map(_NUMBER.fullmatch, column)):
            parts.append([(int(cell),) for cell in column])
        elif colors := _colors(column):
            parts.append(colors)
        else:
            names.append(position)
            parts.append([() for _ in column])
    if len(names) != 1 or sum(len(max(part, key=len)) for part in parts) not in _COUNTS:
        return None
    (index_of_names,) = names
    return [
        Row(
            number,
            line,
            sum((part[index] for part in parts[:index_of_names]), ()),
            columns[index_of_names][index],
            sum((part[index] for part in parts[index_of_names:]), ()),
        )
        for index, (number, line) in enumerate(lines)
    ]


def _plain(title: str) -> str:
    return re.sub(r"[\s_-]", "", title).lower()
