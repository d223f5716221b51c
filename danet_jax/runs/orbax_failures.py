"""Orbax's and TensorStore's failures, as one message each."""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from danet_jax.base.errors import SharedError, UserError
from danet_jax.base.exhaustion import exhausted


@contextlib.contextmanager
def abandoned_reads_ignored() -> Iterator[None]:
    """Keeps a failed read's siblings quiet.

    The first array that cannot be read ends Orbax's event loop; each of the others then prints that
    its loop is closed, some time later, hundreds of lines around the one that says what is wrong.
    """
    former = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            former(unraisable)

    sys.unraisablehook = hook
    yield
    # After an error the hook stays, since the siblings fail some time later.
    sys.unraisablehook = former


@contextlib.contextmanager
def failures(what: str) -> Iterator[None]:
    """Raises a UserError, which begins with `what`, for whatever the block raises."""
    # Orbax and TensorStore raise some ten types for a full disk, a torn file or a wrong shape.
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if code := re.search(r"os_error_code='(\d+)'", reason):
            # TensorStore's sentence names the array and the file first, this last.
            reason = os.strerror(int(code.group(1)))
        kind = SharedError if isinstance(error, SharedError) else UserError
        if lacking := exhausted(error):
            raise kind(f"{lacking[0].upper()}{lacking[1:]} ({reason[:300]}).") from error
        raise kind(f"{what[0].upper()}{what[1:]} ({reason[:300]}).") from error
