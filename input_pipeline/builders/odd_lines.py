"""Lines of classes.txt with other numbers than their neighbours, which are refused.

Otherwise a number would become part of a name, or the wrong three the colour.
"""

import collections
import re
from collections.abc import Sequence

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders.class_list_lines import HOW
from danet_jax.input_pipeline.builders.class_tables import FILE, Row

# What only a row of a table begins or ends with, where a list of names is read.
_OF_TABLE = re.compile(r"(-?[0-9]+\s*([,;|\t=]|:\s)|[,;|=]).*|.*[,;|\t=]", re.DOTALL)
# Names of classes hardly end so.
_FRACTIONS = re.compile(r".*\S[\s,;|]+[0-9]*\.[0-9]+([\s,;|]+[0-9]*\.[0-9]+){2}\s*", re.DOTALL)
_BARE_HEX = re.compile(r".*\S[\s,;|]+(?=\S*[0-9])[0-9a-f]{6}\s*", re.DOTALL | re.IGNORECASE)


def refuse_mixture(rows: Sequence[Row]) -> None:
    """Raises a DataError if most rows, but not all, have ids or colours in the same places."""
    shapes = collections.Counter(row.shape for row in rows if row.is_strong)
    (shape, count), *_ = shapes.most_common(1) or [((0, 0), 0)]
    if shape != (0, 0) and 2 * count > len(rows):
        row = next(row for row in rows if row.shape != shape)
        usual = next(row for row in rows if row.shape == shape and row.is_strong)
        raise DataError(
            f"{FILE}, line {row.line}: {row.text!r} is written differently from line {usual.line}, "
            f"{usual.text!r}. Write all lines alike, and comments after #; or give classes.json"
        )


def refuse_fifth_number(rows: Sequence[Row]) -> None:
    """Raises a DataError if some names, but not all, seem to begin with an opacity."""
    numbered = [row for row in rows if re.match(r"[0-9]+\s", row.name)]
    if 0 < len(numbered) < len(rows):
        raise DataError(
            f"{FILE}, line {numbered[0].line}: {numbered[0].text!r} begins with more numbers than "
            "other lines: write all lines alike, or name the classes in classes.json"
        )


def refuse_opacity_or_blue(rows: Sequence[Row]) -> None:
    """Raises a DataError for rows of four numbers that can be read in two ways."""
    raise DataError(
        f"{FILE}, line {rows[0].line}: {rows[0].text!r} and the other lines may hold an id and a "
        "colour, or a colour and its opacity of 255, which nothing tells: leave the opacity out, "
        "or name the classes in classes.json"
    )


def refuse_colors_in_other_forms(rows: Sequence[Row]) -> None:
    """Raises a DataError for colours as fractions or without a sign, which would become names."""
    for row in rows:
        if _FRACTIONS.fullmatch(row.text):
            raise DataError(
                f"{FILE}, line {row.line}: {row.text!r} ends in three fractions; a colour is three "
                f"whole numbers from 0 to 255: {HOW}"
            )
    if len(rows) > 1 and all(_BARE_HEX.fullmatch(row.text) for row in rows):
        raise DataError(
            f"{FILE}, line {rows[0].line}: {rows[0].text!r} and the other lines end in six digits, "
            "which may be a colour: write it with a sign, #804080, or leave it out"
        )


def refuse_odd(rows: Sequence[Row]) -> None:
    """Raises a DataError for a row that has more or fewer numbers than a name and a colour."""
    numbers = [_count_numbers(row.text) for row in rows]
    are_painted = max(numbers) >= 3
    stems = collections.Counter(" ".join(row.text.split()[:-4]) for row in rows)
    for position, (row, count) in enumerate(zip(rows, numbers, strict=True)):
        odd = ""
        if count > 3 and not _is_part_of_name(row.text, count, stems):
            odd = (
                f"ends in {count} numbers, and nothing tells which three are the colour. Where a "
                "number belongs to the name, put a comma behind it, route 66, 128 64 128. Otherwise"
            )
        elif are_painted and count == 2:
            odd = "ends in two numbers, and a colour has three:"
        elif len(row.before) >= 3 and count < 3:
            odd = "begins with numbers, and other lines do not, or with fewer:"
        elif count == 3 and not all(other.before for other in rows) and len(row.before) == 1:
            if row.before[0] in (position, position + 1):
                odd = f"begins with {row.before[0]} as if that were its id, and other lines do not:"
        elif _OF_TABLE.fullmatch(row.text):
            odd = "looks like a row of a table, and other lines have other columns, or gaps:"
        if odd:
            raise DataError(f"{FILE}, line {row.line}: {row.text!r} {odd} {HOW}")


def _count_numbers(text: str) -> int:
    """Counts the numbers behind a name."""
    _, *words = text.split()
    return next((n for n, word in enumerate(reversed(words)) if not word.isdecimal()), len(words))


def _is_part_of_name(text: str, count: int, stems: collections.Counter[str]) -> bool:
    """Returns whether the first of four numbers certainly belongs to a name, "route 66 0 0 255"."""
    words = text.split()
    # Names that differ in nothing else, "lane 1" and "lane 2"; and numbers that are no colour's.
    if count == 4 and (stems[" ".join(words[:-4])] > 1 or int(words[-4]) > 255):
        return True
    first, *others = sorted(map(len, re.findall(r"\s+", text)), reverse=True)
    is_wide = first > 1 == max(others) and len(re.split(r"\s{2,}", text)[1].split()) == 3
    return count == 4 and is_wide
