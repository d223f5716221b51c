"""Runs the commands of `danet`: their messages and exit statuses."""

import argparse
import errno
import functools
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import Any

from danet_jax.base.errors import DataError, SharedError, UserError
from danet_jax.base.exhaustion import check_limits, exhausted
from danet_jax.base.texts import OutputClosedError, show
from danet_jax.commands.arguments import Command, asked_help, parse
from danet_jax.runtime.supervision import LOST, has_joined, is_of_others, lost_message

_EXHAUSTED = (
    "No file is damaged by that, and what was saved stays: end other programs, raise the limits of "
    "this one (ulimit -a, the container's), or ask for less (config.train.batch_size, "
    "config.data.crop_size, config.data.num_threads, config.eval.window_batch)."
)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Stopped(KeyboardInterrupt):
    """SIGTERM or Ctrl-C, outside the loop of training, which handles them itself."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.status = 128 + number


def run(arguments: Sequence[str] | None = None, *, others: Sequence[Command] = ()) -> int:
    """Runs the command that the arguments (default: the process's) name; returns the exit status.

    `others` are commands besides those of this package. A UserError or DataError is a message and
    status 2, without a traceback unless --debug. A command that a signal ended has status 128 +
    the signal's number, as in a shell.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if (asked := asked_help(given)) is not None:
        spec, of_arguments = asked
        return _help(spec, of_arguments=of_arguments)
    args = parse(given, others=others)
    sys.unraisablehook = functools.partial(_on_unraisable, debug=args.debug)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        if problem := check_limits():
            raise UserError(f"{problem}.")
        module = importlib.import_module(_module_of(args.command, others))
        return module.run(args) or 0
    except (Exception, KeyboardInterrupt) as error:
        status = _status(error, args)
        if _is_one_of_several() and not isinstance(error, SharedError):
            if status is None:
                show(traceback.format_exc(), file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            # At a normal exit JAX would wait for the other processes, and they for this one.
            os._exit(1 if status is None else status)
        if status is None:
            raise
        return status


def _help(spec: str, *, of_arguments: bool) -> int:
    """Shows the arguments or the fields of an experiment; returns the exit status."""
    from danet_jax.commands import config

    try:
        if of_arguments:
            config.show_arguments(spec)
        else:
            config.show_fields(spec, ())
    except (UserError, OutputClosedError) as error:
        return _status(error, argparse.Namespace(command="config", debug=False)) or 0
    return 0


def _module_of(command: str, others: Sequence[Command]) -> str:
    modules = {other.name: other.module for other in others}
    return modules.get(command) or f"danet_jax.commands.{command.replace('-', '_')}"


def _status(error: BaseException, args: argparse.Namespace) -> int | None:
    """Shows why a command ended and returns its exit status; None for an unexpected error."""
    if reason := exhausted(error):
        # This comes first, since code that reads files may take a lack of resources for damage.
        return _explain(f"{reason}. {_EXHAUSTED}", debug=args.debug)
    if reason := _of_other_processes(error):
        _explain(lost_message(reason), debug=args.debug)
        return LOST
    match error:
        case Stopped():
            more = {
                # A signal during training itself is handled by its loop.
                "train": "; all steps that were done are saved",
                "prepare": "; repeat the command to go on",
            }
            show(f"{error}: stopped{more.get(args.command, '')}", file=sys.stderr)
            return error.status
        case KeyboardInterrupt():
            show("stopped without saving", file=sys.stderr)
            return 130
        case OutputClosedError():
            # Whoever read the output, such as `head`, has seen enough. Python would complain when
            # it flushes the rest at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        case UserError() | DataError():
            return _explain(str(error), debug=args.debug)
        case OSError() if error.filename is not None or error.errno in _DISK_FULL:
            file = "" if error.filename is None else f"{error.filename}: "
            return _explain(f"{file}{error.strerror or error}", debug=args.debug)
    return None


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _of_other_processes(error: BaseException) -> str:
    """Returns what JAX says where another process ended or is silent; "" for other errors."""
    # Where the processes have not found each other, the message says what to do.
    is_explained = isinstance(error, UserError | DataError) and not has_joined()
    if not _is_one_of_several() or is_explained or isinstance(error, KeyboardInterrupt):
        return ""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        if isinstance(cause, RuntimeError) and is_of_others(text := str(cause)):
            return text
        cause = cause.__cause__ or cause.__context__
    return ""


def _stop(number: int, _frame: object) -> None:
    raise Stopped(number)


def _on_unraisable(report: Any, *, debug: bool) -> None:
    # After a failed write TensorStore reports what follows from it, once for each array; the
    # failure itself is raised. A signal that came in a callback is lost there, and sent again.
    if isinstance(report.exc_value, Stopped):
        again = functools.partial(os.kill, os.getpid(), report.exc_value.number)
        timer = threading.Timer(0.05, again)
        timer.daemon = True
        timer.start()
    elif debug:
        sys.__unraisablehook__(report)


def _explain(message: str, *, debug: bool) -> int:
    if debug:
        show(traceback.format_exc(), file=sys.stderr)
    show(f"error: {message}", file=sys.stderr)
    return 2
