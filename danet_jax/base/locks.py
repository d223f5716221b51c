"""Locks on files, for file systems that have any."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from danet_jax.base.errors import UserError


def lock(file: IO, *, wait: bool = False) -> str | None:
    """Locks an open file for this process, until the file is closed.

    The file has to be open for writing, since network disks lock no other.

    Returns:
      None where the file is locked now; else the system's reason why it cannot be. Lustre without
      `-o flock`, NFS without its lock service and some cloud drives lock nothing (ENOSYS, ENOLCK,
      ENOTSUP, …), and a lock is too little to stop the work for.

    Raises:
      BlockingIOError: another process holds the lock, and this one is not to `wait`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        return error.strerror or str(error)
    return None


@contextlib.contextmanager
def hold(
    path: Path, *, error: type[UserError], busy: str, changed: str
) -> Iterator[tuple[IO, str | None]]:
    """Holds the lock of a file during the block, and makes the file if there is none.

    The caller decides whether to remove the file afterwards.

    Args:
      path: the lock file, in a folder that exists.
      error: the exception to raise.
      busy: the message where another process holds the lock.
      changed: the message where another process replaced or removed the file meanwhile.

    Yields:
      The open file, and the reason why it could not be locked, None where it is.
    """
    # Opening a pipe would wait for its other end.
    if os.path.lexists(path) and not path.is_file():
        raise error(f"{path} is in the way: it is no ordinary file. Move it away.")
    # The file is not emptied, since somebody else may have written one of that name.
    with open(path, "a") as file:
        try:
            unlocked = lock(file)
        except BlockingIOError:
            raise error(busy) from None
        # The process that held it before may have moved or removed it after it was opened here, and
        # a third process may hold a new file of the same name.
        if not _is_at(file.fileno(), path):
            raise error(changed)
        yield file, unlocked


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
