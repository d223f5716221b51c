"""Memory and threads: whether a process may have enough, and which errors say that it had not."""

import errno
import os
import re
import resource
import threading

# Virtual, as RLIMIT_AS counts it: a network of four channels was seen to take 3.0 GiB on two cores.
_ADDRESSES = 3 << 30
# The C library reserves up to 8 arenas for each core (mallopt(3), M_ARENA_MAX).
_ARENA, _ARENAS_OF_A_CORE = 64 << 20, 8
# The same training had 94 threads on two cores.
_THREADS, _THREADS_OF_A_CORE, _MOST_THREADS = 64, 16, 512
_LIMITS = {"RLIMIT_AS": "ulimit -v", "RLIMIT_DATA": "ulimit -d"}
_MEMORY = "there is not enough memory"
_NO_THREADS = "no more threads can be started"
_SAID = {
    _NO_THREADS: re.compile(r"can't start new thread|pthread_create|thread: Resource temporarily"),
    _MEMORY: re.compile(r"RESOURCE_EXHAUSTED|bad_alloc|[Oo]ut of memory|Cannot allocate memory"),
}


def check_limits() -> str:
    """Returns which limit of this process is too low for any command, and the cure; "" for none.

    Known before the work, since the libraries that read and compute abort, or wait for ever for a
    thread that never began, where they get too little.
    """
    # Those that this process may use, by which the libraries count, too.
    cores = len(os.sched_getaffinity(0))
    wanted = _ADDRESSES + _ARENA * _arenas(cores)
    for name, command in _LIMITS.items():
        limit, _ = resource.getrlimit(getattr(resource, name))
        if limit != resource.RLIM_INFINITY and limit < wanted:
            return (
                f"{_MEMORY}: this process is limited to {limit / 2**30:.1f} GiB of addresses "
                f"({command}), and its libraries reserve up to {wanted / 2**30:.1f} GiB, most of "
                f"which they never use: give `{command} unlimited`, and limit memory by the "
                "container or job instead; or set MALLOC_ARENA_MAX=2, and they reserve less"
            )
    number = min(_THREADS + cores * _THREADS_OF_A_CORE, _MOST_THREADS)
    if (started := _count_threads(number)) < number:
        return (
            f"{_NO_THREADS}: of {number} that the libraries want, this process may start "
            f"{started}. Raise `ulimit -u`, or the container's limit on processes (pids.max), or "
            "end others"
        )
    return ""


def _arenas(cores: int) -> int:
    """Returns how many arenas the C library may make, which MALLOC_ARENA_MAX limits."""
    given = os.environ.get("MALLOC_ARENA_MAX", "")
    most = _ARENAS_OF_A_CORE * cores
    return min(int(given), most) if given.isdecimal() and int(given) else most


def _count_threads(number: int) -> int:
    """Returns how many threads can be there at once, up to a number."""
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
    """Returns what ran out where that is why an error, or one that it follows from, was raised."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return _MEMORY
        if isinstance(error, RuntimeError | OSError | ImportError):
            for what, pattern in _SAID.items():
                if pattern.search(str(error)):
                    return what
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
