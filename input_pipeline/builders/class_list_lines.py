"""The lines of classes.txt: decoded, and without comments and marks of other formats."""

import re

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders.class_tables import FILE

HOW = (
    "write the name of a class on each line, if you like with its colour, road 128 64 128, or "
    "give ids in classes.json"
)
_COMMENTS = ("#", "//")
_IN_BRACKETS = re.compile(
    r"(?:rgb)?[(\[]\s*([0-9]+)[\s,;]+([0-9]+)[\s,;]+([0-9]+)\s*[)\]](?=\s*$)", re.IGNORECASE
)
_HEX = re.compile(
    r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})(?:[0-9a-f]{2})?(?![0-9a-z])", re.IGNORECASE
)
_IS_HEX_BEHIND = re.compile(r"[^#]*[^#\s][\s,;:=|]+#(?:[0-9a-f]{6}|[0-9a-f]{8})", re.IGNORECASE)
_RULE = re.compile(r"\|?(\s*:?-+:?\s*\|)+[\s:-]*")
_COLOR_AND_COMMENT = re.compile(r"(.*[\s,(\[][0-9]+[\s,]+[0-9]+[\s,]+[0-9]+\s*[)\]]?)\s+(?:#|//).*")


def decode(data: bytes) -> str:
    """Decodes a list in UTF-8 or, by its mark, UTF-16; a DataError for other encodings."""
    is_utf_16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = data.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise DataError("not a text in UTF-8; save it in that encoding") from None
    return text


def _lines(text: str) -> list[str]:
    # str.splitlines would also end lines at characters that may occur in a name.
    return re.split(r"\r\n|\r|\n", text)


def without_comments(text: str) -> list[tuple[int, str]]:
    """Strips and numbers lines, and drops comments and the empty lines beside them."""
    stripped = [(number, line.strip()) for number, line in enumerate(_lines(text), start=1)]
    marked = {
        number for number, line in stripped if line.startswith(_COMMENTS) and not _HEX.match(line)
    }
    clear = {n for n, line in stripped if n in marked and re.match(r"(#+|//+)(\s|$)", line)}
    if len(marked) == sum(bool(line) for _, line in stripped) and not clear:
        return stripped  # The names are "#1", "#2", …
    remaining: list[tuple[int, str]] = []
    is_after_comment = False
    for number, line in stripped:
        if number in marked:
            if number not in clear:
                raise DataError(
                    f"{FILE}, line {number}: {line!r} may be a comment or a name. Remove it, or "
                    "put a space after its mark; or name the classes in classes.json"
                )
            while remaining and not remaining[-1][1]:
                remaining.pop()
            is_after_comment = True
        elif line or not is_after_comment:
            is_after_comment = False
            remaining.append((number, _COLOR_AND_COMMENT.sub(r"\1", line)))
    return remaining


def without_markup(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Removes marks of YAML and Markdown, and writes colours as three numbers."""
    first = lines[0][1]
    if first.startswith("<"):
        raise DataError(f"{FILE} holds XML or HTML: {HOW}")
    if re.fullmatch(r"(names|classes|labels)\s*:", first, re.IGNORECASE) and len(lines) > 1:
        lines = lines[1:]
    if any(re.match(r"(names|classes|labels)\s*:\s*(\[|$)|\w+\s*\{$", line) for _, line in lines):
        raise DataError(f"{FILE} holds a file of settings: {HOW}")
    # Markdown has a line of dashes below the titles of a table.
    lines = [entry for entry in lines if not _RULE.fullmatch(entry[1])] or lines
    *most, (number, last) = lines
    if most and all(line.endswith(",") for _, line in most) and "," not in last:
        lines = [*((position, line[:-1].rstrip()) for position, line in most), (number, last)]
    if all(re.match(r"[-*]\s+\S", line) for _, line in lines if line):
        lines = [(number, line[1:].strip()) for number, line in lines]
    lines = [(number, _IN_BRACKETS.sub(r"\1 \2 \3", line)) for number, line in lines]
    # All lines but one are enough, since a header has no colour.
    if sum(bool(_HEX.search(line)) for _, line in lines) >= max(1, len(lines) - 1):
        lines = [(number, _HEX.sub(_decimals, line)) for number, line in lines]
    # Behind a name it is a colour in any line.
    return [
        (number, _HEX.sub(_decimals, line) if _IS_HEX_BEHIND.fullmatch(line) else line)
        for number, line in lines
    ]


def _decimals(color: re.Match) -> str:
    return " ".join(str(int(value, 16)) for value in color.groups())
