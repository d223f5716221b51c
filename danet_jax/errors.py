"""Failures that a person can act on."""

import difflib
from collections.abc import Sequence


class UserError(ValueError):
    """What is wrong, where, and what to do; the command line prints it and exits with status 2."""


class SharedError(UserError):
    """What one of several processes found wrong, raised in each of them."""


def check_choice(field: str, value: object, allowed: Sequence[object]) -> None:
    """Raises a UserError that names the allowed values, and the nearest one, where it is none."""
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), [str(item) for item in allowed], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(
        f"{field} is {value!r}; it can be one of {', '.join(map(repr, allowed))}.{hint}"
    )
