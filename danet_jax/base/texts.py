"""Shows texts that come from files to a person."""

import re
import sys
from typing import Any

# These are control characters, which move the cursor of a terminal, colour it or set its title;
# marks that reverse the direction of what follows; separators that some programs take for ends of
# lines; and halves of surrogate pairs, which no encoding holds. The tab and the end of a line are
# not among them.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def visible(text: str) -> str:
    r"""Replaces control characters by their escapes in Python: \x1b."""
    return _HIDDEN.sub(_escaped, text)


def one_line(text: object, *, longest: int = 200) -> str:
    """Prepares a text of a file for use inside a sentence: visible, and not too long."""
    shown = visible(str(text)).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(shown) <= longest else f"{shown[:longest]}…"


class OutputClosedError(BrokenPipeError):
    """Nobody reads what is printed any more."""


def show(text: str, *, file: Any = None) -> None:
    """Prints a line that cannot control the terminal, to standard output or another file.

    What the encoding of the output cannot hold is escaped as in Python.

    Raises:
      OutputClosedError: whoever read it, such as `head`, has ended.
    """
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    line = visible(text).encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(line, file=file, flush=True)
    except BrokenPipeError as error:
        raise OutputClosedError(*error.args) from None


def _escaped(match: re.Match) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
