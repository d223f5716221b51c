"""Locks on files, where the file system has any."""

import fcntl
from typing import IO


def lock(file: IO, *, wait: bool = False) -> str | None:
    """Locks an open file for this process, until the file is closed.

    The file is to be open for writing, since network disks lock no other.

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
