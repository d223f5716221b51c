"""Numbers, lists and the program's own name in sentences."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

# How the program was started, by the name of the file that Python runs.
_PROGRAMS = {"main.py": "python main.py", "__main__.py": "python -m danet_jax"}


def program() -> str:
    """Returns what a user types before the name of a command."""
    return _PROGRAMS.get(Path(sys.argv[0]).name, "danet")


def counted(number: int, noun: str, plural: str = "") -> str:
    """Returns "1 image" or "3 images"; give `plural` if it is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def listed(items: Iterable[object], *, shown: int = 5) -> str:
    """Returns "a, b, c", or for many items the first ones "and 7 more"."""
    names: Sequence[str] = [str(item) for item in items]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
