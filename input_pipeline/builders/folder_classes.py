"""The classes of a user's own images: their names, colours, and ids in label files."""

import dataclasses
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from danet_jax.base.errors import DataError
from danet_jax.base.json_files import parse_json
from danet_jax.base.shapes import Wrong
from danet_jax.input_pipeline.builders import class_list_lines, class_lists
from danet_jax.input_pipeline.checking import reading
from danet_jax.input_pipeline.labels import IGNORE_LABEL, Labels, standard_color

HIGHEST_ID = 65535
# This id stands for ignored colours where no id is ignored. It is higher than any id of a file.
IGNORED_COLOR = HIGHEST_ID + 1

Color = tuple[int, int, int]

_FILE_KEYS = {"classes", "ignore"}
_CLASS_KEYS = {"name", "color", "ids"}
_EXAMPLE = (
    '{"classes": [{"name": "road", "color": [128, 64, 128], "ids": [0]}, …], "ignore": [255]}'
)


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes that a source names.

    `id_map` maps raw ids to train ids, or to 255 for ignored ones; `color_ids` maps the colours
    that the source names to raw ids. Classes without a colour get one in `labels`.
    """

    labels: Labels
    id_map: Mapping[int, int]
    color_ids: Mapping[Color, int]


def read_classes(source: Path) -> Classes:
    """Reads the classes in `classes.txt` or `classes.json` of a source folder.

    classes.txt has a name on each line, with or without a colour, "road 128 64 128"; its ids are 0,
    1, 2, … in this order, and 255 is ignored. Lists with ids, and tables, are read by
    `class_lists.parse`. classes.json can also merge ids: {"classes": [{"name": "road", "color":
    [128, 64, 128], "ids": [7, 8]}, …], "ignore": [0, 255]}. There `color` and `ids` may be left
    out, and `ignore` may contain colours, too.

    Raises:
      DataError: neither file is there, or both; what they say is incomplete or contradicts itself.
    """
    files = [source / name for name in ("classes.txt", "classes.json")]
    present = [file for file in files if file.is_file()]
    if not present:
        raise DataError(
            f"{source} holds neither classes.txt, with the name of a class on each line, nor "
            f"classes.json, {_EXAMPLE}. Beside it belong images/train, images/val, labels/train "
            "and labels/val"
        )
    if len(present) > 1:
        raise DataError(f"{source}: both classes.txt and classes.json; leave only one of them")
    try:
        text = class_list_lines.decode(reading.read_bytes(present[0]))
    except DataError as error:
        raise DataError(f"{present[0].name}: {error}") from None
    return _read_list(text) if present[0].suffix == ".txt" else _read_json(text)


def _read_list(text: str) -> Classes:
    if text.lstrip().startswith(("{", "[")):
        names = _names_in_json(text)
        if names is not None:
            return _combine("classes.txt", [{"name": name} for name in names], None)
    return _combine("classes.txt", class_lists.parse(text), None)


def _names_in_json(text: str) -> list[str] | None:
    """Returns the names in a JSON list; None if the text is not JSON."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        # A line such as "[void]" is a name, not a list in JSON.
        content = re.fullmatch(r"\s*(\{.*|\[[^\]]*([,'\"\n].*)?\])\s*", text, re.DOTALL)
        if content is None or re.match(r"\s*\[[^\],'\"\n]*\]", text):
            return None
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    raise DataError(
        "classes.txt: holds JSON or the like. Write the name of a class on each line, or make it "
        f"classes.json, {_EXAMPLE}"
    )


def _read_json(text: str) -> Classes:
    try:
        content = parse_json(text.encode(errors="surrogatepass"))
    except Wrong as error:
        raise DataError(f"classes.json: {error}; write {_EXAMPLE}") from None
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise DataError(f"classes.json: no list of classes; it looks like {_EXAMPLE}")
    _refuse_others(content, _FILE_KEYS, "classes.json")
    ignore = content.get("ignore")
    if ignore is not None and not isinstance(ignore, list):
        raise DataError(f'classes.json: "ignore" is {ignore!r}; give a list, [0, 255]')
    for position, entry in enumerate(content["classes"]):
        where = f"classes.json, class {position}"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise DataError(f'{where}: {json.dumps(entry)}; give an object with a "name"')
        _refuse_others(entry, _CLASS_KEYS, f"{where}, {entry['name']!r}")
    return _combine("classes.json", content["classes"], ignore)


def _refuse_others(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    others = sorted(values.keys() - known)
    if others:
        raise DataError(f"{where}: unknown {others[0]!r}; known are {', '.join(sorted(known))}")


def _combine(file: str, classes: Sequence[Mapping[str, Any]], ignore: list | None) -> Classes:
    names = [entry["name"] for entry in classes]
    for name in names:
        _check_name(name, file)
    meanings: dict[int | Color, str] = {}

    def claim(value: int | Color, meaning: str) -> None:
        if meanings.setdefault(value, meaning) != meaning:
            kind = "id" if isinstance(value, int) else "colour"
            raise DataError(f"{file}: {kind} {value} is both {meanings[value]} and {meaning}")

    id_map: dict[int, int] = {}
    color_ids: dict[Color, int] = {}
    raw_ids = []
    for position, (name, entry) in enumerate(zip(names, classes, strict=True)):
        where = f"{file}, {name!r}"
        ids = entry.get("ids", [position])
        if not isinstance(ids, list) or not ids:
            raise DataError(f'{where}: "ids" is {ids!r}; give a list of numbers, [7, 8]')
        for id in ids:
            claim(_check_id(id, where), repr(name))
            id_map[id] = position
        raw_ids.append(ids[0])
        if "color" in entry:
            color = _check_color(entry["color"], where)
            claim(color, repr(name))
            color_ids[color] = ids[0]

    where = f"{file}, ignore"
    if ignore is None:
        ignore = [IGNORE_LABEL] if IGNORE_LABEL not in id_map else []
    ignored_ids = [_check_id(value, where) for value in ignore if not isinstance(value, list)]
    for id in ignored_ids:
        claim(id, "ignored")
        id_map[id] = IGNORE_LABEL
    for color in (_check_color(value, where) for value in ignore if isinstance(value, list)):
        claim(color, "ignored")
        color_ids[color] = ignored_ids[0] if ignored_ids else IGNORED_COLOR
        id_map[color_ids[color]] = IGNORE_LABEL

    # Black, the first colour of the standard palette, is left out: it looks like no label.
    spare = (color for color in map(standard_color, range(1, 1 << 24)) if color not in color_ids)
    colors = [tuple(entry["color"]) if "color" in entry else next(spare) for entry in classes]
    try:
        labels = Labels(tuple(names), tuple(colors), tuple(raw_ids))
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    return Classes(labels, id_map, color_ids)


def _check_name(name: str, file: str) -> None:
    if not name.strip():
        raise DataError(f"{file}: a class without a name; give each a name")
    strange = [letter for letter in name if unicodedata.category(letter) in ("Cc", "Cs")]
    if strange:
        raise DataError(
            f"{file}: {name!r} holds the control character {strange[0]!r}; save the list as plain "
            "text in UTF-8, and without such characters"
        )


def _check_id(id: Any, where: str) -> int:
    if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id <= HIGHEST_ID:
        raise DataError(f"{where}: id {id!r}; ids are numbers from 0 to {HIGHEST_ID}")
    return id


def _check_color(color: Any, where: str) -> Color:
    if (
        not isinstance(color, list)
        or len(color) != 3
        or not all(type(value) is int and 0 <= value <= 255 for value in color)
    ):
        raise DataError(f"{where}: colour {color!r}; give red, green, blue in 0-255")
    return color[0], color[1], color[2]
