"""The memory of the process that measures."""

import contextlib
import os
import resource
import sys
from pathlib import Path


def peak() -> int:
    """Returns the largest number of bytes that this process held.

    Linux's own count leaves out the program that started it; `getrusage` includes that.
    """
    if (high_water_mark := _status("VmHWM")) is not None:
        return high_water_mark
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def resident() -> int:
    """Returns the bytes that this process holds now; 0 where the system does not say."""
    return _status("VmRSS") or 0


def _status(name: str) -> int | None:
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None


def limit_to_physical() -> None:
    """Limits this process to the machine's memory, so that it fails before the machine does."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        physical = min(physical, hard)
    with contextlib.suppress(ValueError, OSError):  # where there is no such limit
        resource.setrlimit(resource.RLIMIT_AS, (physical, hard))
