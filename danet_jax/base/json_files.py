"""Reads JSON files that we wrote, and that others may have edited, torn or replaced."""

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

from danet_jax.base.shapes import Shape, Wrong, anything
from danet_jax.base.texts import one_line

LARGEST = 64 << 20
# A float holds numbers of about so many digits. Python stops at 4300, with an error that does not
# name the file.
_MOST_DIGITS = 300
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISBLK: "a device",
    stat.S_ISCHR: "a device",
}


def read_json(
    path: Path,
    shape: Shape = anything,
    *,
    error: type[ValueError],
    advice: str,
    largest: int = LARGEST,
) -> Any:
    """Returns the content of a JSON file.

    Args:
      path: the file.
      shape: the shape that its content must have.
      error: the exception to raise.
      advice: the remedy for a file of another content, as whole sentences.
      largest: the largest number of bytes that is read.

    Raises:
      `error`: "PATH cannot be read: …", with the place in the file, what is wrong there and the
        advice; where the system does not give the file, what it said.
    """
    data = read_bytes(path, error=error, largest=largest)
    try:
        value = parse_json(data)
        shape(value, "")
    except Wrong as wrong:
        raise error(f"{path} cannot be read: {wrong}. {advice}") from None
    return value


def read_bytes(path: Path, *, error: type[ValueError], largest: int = LARGEST) -> bytes:
    """Returns the content of a file; raises `error` if it is no file, too large, or refused."""
    try:
        # This comes before opening, since opening a pipe waits for its other end.
        status = path.stat()
        for is_kind, words in _KINDS.items():
            if is_kind(status.st_mode):
                raise error(f"{path} cannot be read: it is {words}, not a file. Move it away.")
        if status.st_size > largest:
            raise error(
                f"{path} cannot be read: it has {status.st_size / 1e6:.0f} MB, where such files "
                f"have at most {largest / 1e6:.0f}. It is another file, or was added to: take it "
                "from a copy."
            )
        return path.read_bytes()
    except OSError as failure:
        raise error(
            f"{path} cannot be read: {failure.strerror or failure}. The file itself may be in "
            "intact: fix that, and repeat the command."
        ) from failure


def parse_json(data: bytes) -> Any:
    """Parses JSON in UTF-8, or in the encoding that an editor marked it with.

    Raises Wrong, which says where it is not JSON, which name occurs twice, or how many digits a
    number has. NaN and Infinity, which JSON does not know, are left to the shape.
    """
    if not data.strip(b" \t\r\n\0"):
        raise Wrong("it is empty" if not data.strip(b"\0") else "it holds nothing but white space")
    encoding = json.detect_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise Wrong(f"it is not text in {encoding.upper()}: see byte {error.start}") from None
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_whole)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Wrong(f"{error.msg} in {where}") from None
    except RecursionError:
        raise Wrong("its lists and objects are nested too deeply") from None


def is_there(path: Path) -> bool:
    """Returns whether something has this name, including a broken link."""
    return os.path.lexists(path)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                _refuse_twice(name)
            names.add(name)
    return values


def _refuse_twice(name: str) -> NoReturn:
    raise Wrong(f"{one_line(json.dumps(name), longest=60)} occurs twice in one object")


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise Wrong(f"it holds a number of {len(digits)} digits")
    return int(digits)
