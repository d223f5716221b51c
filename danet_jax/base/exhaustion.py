"""Memory and threads: whether a process may have enough, and which errors say that it did not."""

import errno
import os
import re
import resource
import threading
from pathlib import Path

# This is virtual memory, as RLIMIT_AS counts it: a network of four channels took 3.0 GiB on two
# cores.
_ADDRESSES = 3 << 30
# The C library reserves up to 8 arenas for each core (mallopt(3), M_ARENA_MAX).
_ARENA, _ARENAS_OF_A_CORE = 64 << 20, 8
# The first version of control groups reports this number, or a larger one, if there is no limit.
_UNLIMITED = 1 << 62
# On two cores the same training was aborted with 100 threads and processes allowed, not with 110.
_THREADS, _THREADS_OF_A_CORE, _MOST_THREADS = 80, 16, 512
# Heaps held 1.67 GiB in the same training, together with the stacks of its threads, which
# RLIMIT_DATA also counts.
_HEAPS = 1 << 30
# A thread gets this stack on x86 if there is no limit of stacks.
_STACK = 2 << 20
# Resident memory was 0.75 GiB in the same training, and 0.3 GiB in a prediction.
_RESIDENT = 512 << 20
_MEMORY = "there is not enough memory"
_NO_THREADS = "no more threads can be started"
_SAID = {
    _NO_THREADS: re.compile(r"can't start new thread|pthread_create|thread: Resource temporarily"),
    _MEMORY: re.compile(r"RESOURCE_EXHAUSTED|bad_alloc|[Oo]ut of memory|Cannot allocate memory"),
}


def check_limits() -> str:
    """Returns which limit of this process is too low for any command, and the cure; "" if none is.

    This is checked before the work: the libraries that read and compute abort if they get too
    little, or wait for ever for a thread that never started.
    """
    # The libraries count the cores that this process may use, not all of the machine.
    cores = len(os.sched_getaffinity(0))
    number = min(_THREADS + cores * _THREADS_OF_A_CORE, _MOST_THREADS)
    reserved = _ADDRESSES + _ARENA * _arenas(cores)
    instead = "and limit memory by the container or job instead"
    if (limit := _limit(resource.RLIMIT_AS)) is not None and limit < reserved:
        return (
            f"{_MEMORY}: this process is limited to {_gibibytes(limit)} of addresses "
            f"(ulimit -v), and its libraries reserve up to {_gibibytes(reserved)}, most of "
            f"which they never use: give `ulimit -v unlimited`, {instead}; or set "
            "MALLOC_ARENA_MAX=2, and they reserve less"
        )
    stack = _limit(resource.RLIMIT_STACK) or _STACK
    written = _HEAPS + number * stack
    if (limit := _limit(resource.RLIMIT_DATA)) is not None and limit < written:
        return (
            f"{_MEMORY}: this process is limited to {_gibibytes(limit)} of data (ulimit -d), and "
            f"its heaps and the stacks of {number} threads may take {_gibibytes(written)}: give "
            f"`ulimit -d unlimited`, {instead}; or smaller stacks, `ulimit -s 1024`"
        )
    memory = memory_limit()
    if memory and memory[0] < _RESIDENT:
        return (
            f"{_MEMORY}: the container or job of this process may use {_gibibytes(memory[0])} "
            f"({memory[1]}), and the smallest network takes {_gibibytes(_RESIDENT)}: raise that "
            "limit (docker run --memory, systemd's MemoryMax, what the job asked its scheduler for)"
        )
    if (started := _count_threads(number)) < number:
        return (
            f"{_NO_THREADS}: of {number} that the libraries want, this process may start "
            f"{started}. Raise `ulimit -u`, or the container's limit on processes (pids.max), or "
            "end others"
        )
    return ""


def machine_memory() -> int:
    """Returns the bytes of this machine's memory, or those that its job or container may use."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = memory_limit()
    return min(physical, limit[0]) if limit else physical


def memory_limit(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> tuple[int, Path] | None:
    """Returns the lowest memory limit of this process's control groups, and its file.

    The limits of parent groups count, too. Returns None if there is no limit.

    Args:
      groups: the file that lists this process's groups.
      root: the folder at which they are mounted.
    """
    limits = []
    for folder, name in _memory_groups(groups, root):
        # A container may see its own group as the root, whatever its path is outside.
        for group in (folder, *folder.parents):
            if not group.is_relative_to(root):
                break
            try:
                number = (group / name).read_text().strip()
            except OSError:
                continue
            if number.isdecimal():
                limits.append((int(number), group / name))
    finite = [one for one in limits if one[0] < _UNLIMITED]
    return min(finite, default=None)


def _memory_groups(groups: Path, root: Path) -> list[tuple[Path, str]]:
    """Returns the folder of each group that can limit memory, and the name of the limit file."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return []
    limit_files = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        inside = Path(*(part for part in Path(path).parts if part not in ("/", "..")))
        if controllers == "":
            limit_files += [
                (root / inside, "memory.max"),
                (root / "unified" / inside, "memory.max"),
            ]
        elif "memory" in controllers.split(","):
            limit_files.append((root / "memory" / inside, "memory.limit_in_bytes"))
    return limit_files


def _limit(which: int) -> int | None:
    limit, _ = resource.getrlimit(which)
    return None if limit == resource.RLIM_INFINITY else limit


def _gibibytes(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"


def _arenas(cores: int) -> int:
    """Returns how many arenas the C library may make, which MALLOC_ARENA_MAX limits."""
    given = os.environ.get("MALLOC_ARENA_MAX", "")
    most = _ARENAS_OF_A_CORE * cores
    return min(int(given), most) if given.isdecimal() and int(given) else most


def _count_threads(number: int) -> int:
    """Returns how many threads can exist at once, up to a number."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(number)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except (RuntimeError, MemoryError, OSError):
        pass
    finally:
        end.set()
    for thread in threads[:started]:
        thread.join()
    return started


def exhausted(error: BaseException | None) -> str | None:
    """Returns what ran out if that caused an error, directly or through another error."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return _MEMORY
        if isinstance(error, RuntimeError | OSError | ImportError):
            for what, pattern in _SAID.items():
                if pattern.search(str(error)):
                    return what
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
