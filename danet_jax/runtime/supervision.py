"""One line in place of pages where another process of a job is lost.

Then JAX's C++ client aborts the process that waits for it, and Python hears nothing of that. So a
command that is one of several runs in a child, and the process that was started only watches it: it
passes signals on, and what C++ code writes to standard error, and it has the child's status.
"""

import contextlib
import dataclasses
import json
import os
import re
import select
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence

from danet_jax.base.texts import one_line, show
from danet_jax.base.wording import listed

# Of sysexits.h: a failure that passes, so that it is worth starting all processes again.
LOST = 75
# Seconds: a process that is silent so long is lost, also for JAX (`parallel.initialize`).
LONGEST_SILENCE = 60
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# Bytes of C++'s last words that are kept.
_KEPT = 1 << 20
# These lines begin what the libraries say when they abort: fatal ones of Abseil, those of JAX's
# coordination service, an exception that nothing catches.
_LAST_WORDS = re.compile(
    rb"F\d{4} |[EW]\d{4} .*(coordination|distributed|preemption)|terminate called"
)
# What is said where an array cannot be exchanged since the process at the other end is gone, or
# where a process does not answer JAX's coordination service.
_OF_OTHERS = re.compile(
    r"(?:gloo|nccl).*(?:timed out|remote process|broken pipe)"
    r"|connection (?:was )?(?:closed|reset|refused)|socket closed|heartbeat"
    r"|coordination ?service|distributed service|UNAVAILABLE|shutdown barrier",
    re.IGNORECASE,
)
_TASK = re.compile(r"task:(\d+)|task_id=(\d+)")
# The first process serves the others' requests.
_FIRST = re.compile(r"Failed to send RPC to coordination service|leader task was")
_PEER = re.compile(r"peer \[([^\]\s]{1,80})\]")
# Processes that are named where many are lost.
_NAMED = 8
# Seconds after which a process whose last words these seemed is taken to live.
_LAST_SECONDS = 30


def is_of_others(text: str) -> bool:
    """Whether a library's message says that another process does not answer."""
    return bool(_OF_OTHERS.search(text))


def lost_message(text: str, *, hosts: Sequence[str] | None = None, ours: int | None = None) -> str:
    """Returns the line that says which process was lost, and what to do.

    Args:
      text: what the libraries say of it: the index of a process, or an address.
      hosts: the processes' names in their order; None for those of `tell_hosts`.
      ours: the index of this process, which is none that was lost.
    """
    if hosts is None:
        hosts, ours = _Told.hosts, _Told.ours
    tasks = sorted({int(one or other) for one, other in _TASK.findall(text)} - {ours})
    if not tasks and ours != 0 and _FIRST.search(text):
        tasks = [0]
    names = [f"{task} on {hosts[task]}" if task < len(hosts) else f"{task}" for task in tasks]
    if not names:
        peer = _PEER.search(text)
        who = f"another process of this job{f' (at {peer[1]})' if peer else ''} was"
    elif len(names) == 1:
        who = f"process {names[0]} was"
    else:
        who = f"processes {listed(names, shown=_NAMED)} were"
    return (
        f"{who} lost: it failed, was killed or stopped, or its machine or network is down. Start "
        "all processes again with the same command; a training goes on from its newest checkpoint."
    )


def supervise() -> None:
    """Returns in a child of this process, which itself watches the child and ends with its status.

    To be called while there is one thread and JAX has no backend. What Python writes goes where it
    went before.
    """
    if threading.active_count() > 1 or threading.current_thread() is not threading.main_thread():
        return
    sys.stdout.flush()
    sys.stderr.flush()
    words_read, words_written = os.pipe()
    notes_read, notes_written = os.pipe()
    # Nothing is ever written to it: its end tells the child that this process is gone.
    alive_read, alive_written = os.pipe()
    # Where it is ignored nobody could wait for the child.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    child = os.fork()
    if child:
        for descriptor in (words_written, notes_written, alive_read):
            os.close(descriptor)
        try:
            _Watch(child, words_read, notes_read, former).run()
        finally:
            # It never goes on as the command.
            os._exit(1)
    for descriptor in (words_read, notes_read, alive_written):
        os.close(descriptor)
    # Of a terminal's Ctrl-C this process passes one on, which is to be the only one.
    os.setpgid(0, 0)
    stderr = os.dup(2)
    os.dup2(words_written, 2)
    os.close(words_written)
    sys.stderr = open(  # noqa: SIM115
        stderr, "w", buffering=1, encoding=sys.stderr.encoding, errors=sys.stderr.errors
    )
    setattr(sys, "__stderr__", sys.stderr)  # noqa: B010
    _Told.notes = notes_written
    threading.Thread(target=_end_with, args=(alive_read, os.getppid()), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_SETMASK, former)


def has_joined() -> bool:
    """Whether this process has found the others of its job."""
    return bool(_Told.hosts)


def tell_hosts(hosts: Sequence[str], *, ours: int) -> None:
    """Notes the names of all processes' hosts for `lost_message`, here and in the watching process.

    Args:
      hosts: in the order of the processes.
      ours: the index of this process.
    """
    _Told.hosts, _Told.ours = list(hosts), ours
    if _Told.notes is not None:
        with contextlib.suppress(OSError):
            os.write(_Told.notes, json.dumps([_Told.hosts, ours]).encode() + b"\n")


class _Told:
    hosts: Sequence[str] = ()
    ours: int | None = None
    # The pipe to the process that watches this one.
    notes: int | None = None


def _end_with(alive: int, parent: int) -> None:
    """Ends this process where the one that watches it was killed, or is stopped for long.

    Whoever stops a command means what it does, and the other processes have to see it.
    """
    since = time.monotonic()
    while not select.select([alive], [], [], 1.0)[0]:
        now = time.monotonic()
        if not _is_stopped(parent):
            since = now
        elif now - since > LONGEST_SILENCE:
            break
    os.kill(os.getpid(), signal.SIGKILL)


def _is_stopped(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        # There is no /proc on macOS.
        return False


@dataclasses.dataclass
class _Watch:
    """The process that was started, after the fork."""

    child: int
    words: int
    notes: int
    mask: set
    kept: bytes = b""
    dying_since: float | None = None
    note: bytes = b""

    def run(self) -> None:
        """Watches until the child ends, and ends with its status."""
        for number in _FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._forward)
        # A child that is stopped from a terminal is continued from there, too.
        signal.signal(signal.SIGCONT, self._forward)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        line = b""
        descriptors = {self.words, self.notes}
        while descriptors:
            for descriptor in select.select(descriptors, [], [], _LAST_SECONDS)[0]:
                data = os.read(descriptor, 1 << 16)
                if not data:
                    descriptors.remove(descriptor)
                elif descriptor == self.notes:
                    self.note += data
                else:
                    *whole, line = (line + data).splitlines(keepends=True)
                    if line.endswith(b"\n"):
                        whole, line = [*whole, line], b""
                    for one in whole:
                        self._take(one)
            if self.dying_since and time.monotonic() - self.dying_since > _LAST_SECONDS:
                _write(self.kept)
                self.kept, self.dying_since = b"", None
        if line:
            self._take(line)
        _, status = os.waitpid(self.child, 0)
        os._exit(self._end(os.waitstatus_to_exitcode(status)))

    def _forward(self, number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, number)

    def _take(self, line: bytes) -> None:
        """Passes a line of C++ on; from the first of its last words on it is kept."""
        if self.dying_since is None and _LAST_WORDS.match(line):
            self.dying_since = time.monotonic()
        if self.dying_since:
            self.kept = (self.kept + line)[-_KEPT:]
        else:
            _write(line)

    def _end(self, code: int) -> int:
        """Says why the child ended, where it could not itself; returns the exit status."""
        text = self.kept.decode(errors="replace")
        if code == LOST:
            # It has said itself what there is to say.
            if self.kept and (file := _store(self.kept)):
                show(f"What JAX said is in {file}.", file=sys.stderr)
            return code
        if code == -signal.SIGABRT and is_of_others(text):
            hosts, ours = self._hosts()
            file = _store(self.kept)
            more = f" What JAX said is in {file}." if file else ""
            show(f"error: {lost_message(text, hosts=hosts, ours=ours)}{more}", file=sys.stderr)
            return LOST
        _write(self.kept)
        if code == -signal.SIGKILL:
            show(
                "error: the process was killed by SIGKILL, as the system does where memory runs "
                "out. What was saved stays.",
                file=sys.stderr,
            )
        return code if code >= 0 else 128 - code

    def _hosts(self) -> tuple[list[str], int | None]:
        try:
            hosts, ours = json.loads(self.note.splitlines()[-1])
            return [one_line(host, longest=60) for host in hosts], ours
        except (IndexError, ValueError):
            return [], None


def _store(words: bytes) -> str:
    """Writes pages of C++ to a file for whoever wants them; returns its name, "" if none."""
    try:
        with tempfile.NamedTemporaryFile(prefix="danet-", suffix=".log", delete=False) as file:
            file.write(words)
            return file.name
    except OSError:
        return ""


def _write(data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(2, data) :]
