"""Files that are whole or not there at all."""

import contextlib
import os
import uuid
from pathlib import Path

from danet_jax.errors import UserError

TEMPORARY_PREFIX = ".tmp-"


def replace_file(path: Path | str, *, data: bytes) -> Path:
    """Writes `data` to `path` in one step, making its folder where there is none.

    A reader sees the old file or the new one, never a part, whatever stops the write.
    Raises UserError where the system refuses (disk full, no permission); the old file then stays.
    """
    path = Path(path)
    # Beside the target, since a rename is one step only within a file system.
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            # Some file systems report a full disk only here.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise UserError(
                f"{path} was not written: {reason}. Free space or choose another folder."
            ) from error
        raise
    return path
