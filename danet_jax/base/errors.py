"""Errors that a person can act on."""

import difflib
import errno
import re
from collections.abc import Sequence

from danet_jax.base.exhaustion import exhausted

# ArrayRecord raises a RuntimeError where Python raises an OSError.
_OF_ARRAY_RECORD = re.compile(r"\w+\(\) failed: ([^;]+); (?:opening|reading|writing) ([^;]+)")


# The process as a whole lacks these, whatever file it is about to read.
_OF_THE_PROCESS = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_OF_RIGHTS = (errno.EACCES, errno.EPERM)
# chmod has to give these rights if not even the size of a file can be read.
OF_ITS_FOLDERS = "u+rx of the folders that it lies in"


class UserError(ValueError):
    """What is wrong, where, and what to do; the command line prints it and exits with status 2."""


class SharedError(UserError):
    """An error of one of several processes, raised in each of them."""


def check_choice(field: str, value: object, allowed: Sequence[object]) -> None:
    """Raises a UserError that names the allowed values, and the nearest one, for any other."""
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), [str(item) for item in allowed], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UserError(
        f"{field} is {value!r}; it can be one of {', '.join(map(repr, allowed))}.{hint}"
    )


class DataError(UserError):
    """What is wrong with data, in which file, and what to do."""


class NotPreparedError(DataError):
    """A data set is not where it was looked for."""


def unreadable_file(error: OSError, *, needed: str = "u+r") -> DataError:
    """Returns an error for a file of a source that the system refuses; the caller names the file.

    `needed` are the rights that reading takes, in the notation of chmod.

    Raises:
      OSError: `error`, where not the file but the process is the cause.
    """
    if error.errno in _OF_THE_PROCESS:
        raise error
    reason = error.strerror or str(error)
    if error.errno in _OF_RIGHTS:
        return DataError(f"cannot be read: {reason}; give yourself the right: chmod {needed}")
    if error.errno == errno.ENOENT:
        return DataError("is not there, or is a link to nothing")
    return DataError(
        f"cannot be read: {reason}; its disk or network drive fails: copy the file again from "
        "where it came"
    )


def unreadable(what: str, error: BaseException, advice: str) -> DataError:
    """Returns an error for data that cannot be read.

    `advice` is only for damaged files. Files that the system refuses, or that a network disk fails
    to deliver, need not be damaged.
    """
    failure = exhausted(error) or system_failure(error)
    if failure is None:
        return DataError(f"{what} is damaged ({error}); {advice}")
    return DataError(
        f"{what} cannot be read: {failure}; its files may be intact: fix that, and repeat the "
        "command"
    )


def system_failure(error: BaseException | None) -> str | None:
    """Returns the message of the system, "FILE: Permission denied"; None if it did not fail."""
    while error is not None:
        if isinstance(error, OSError) and (error.strerror or error.__cause__ is None):
            file = "" if error.filename is None else f"{error.filename}: "
            return f"{file}{error.strerror or error}"
        match = isinstance(error, RuntimeError) and _OF_ARRAY_RECORD.search(str(error))
        if match:
            return f"{match[2]}: {match[1]}"
        # TFDS puts errors of its own before the system's.
        error = error.__cause__
    return None
