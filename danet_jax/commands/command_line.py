"""The arguments of `main.py`, and the messages and exit statuses of its commands."""

import argparse
import dataclasses
import errno
import functools
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from danet_jax import __version__
from danet_jax.base.errors import DataError, SharedError, UserError
from danet_jax.base.exhaustion import check_limits, exhausted
from danet_jax.base.files import check_local
from danet_jax.base.texts import show
from danet_jax.runs.versions import OPTIONAL, PACKAGES, package_versions

DESCRIPTION = "DANet: train, evaluate and use dual attention networks for scene segmentation."
EPILOG = """a field of the config is changed with --config.FIELD=VALUE, for example
  python main.py train --config=configs/camvid.py --workdir=runs/camvid --config.train.epochs=40"""
# Each command is a module beside this one. It is imported when the command is given, since JAX and
# TFDS take seconds.
COMMANDS = {
    "prepare": "write a data set to disk in the form that training reads",
    "inspect": "write a page of training examples, as they are after augmentation",
    "train": "train, or continue the run of a workdir; writes a report at the end",
    "eval": "score a run's best checkpoint and write the report",
    "check-submission": "check a folder of labels for what a benchmark's server would refuse",
    "import-torch": "make a workdir from PyTorch weights: the original's or mmsegmentation's",
    "export": "write the model as PyTorch weights, StableHLO or ONNX",
    "predict": "label images: palette PNG, overlay and class shares",
}
CONFIG_HELP = "config file, FILE.py or FILE.py:ARGUMENT"
# The fields of a config that are paths.
_PATH_FIELDS = ("--config.data.data_dir", "--config.model.pretrained_backbone")
_EXHAUSTED = (
    "No file is damaged by that, and what was saved stays: end other programs, raise the limits of "
    "this one (ulimit -a, the container's), or ask for less (config.train.batch_size, "
    "config.data.crop_size, config.data.num_threads, config.eval.window_batch)."
)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a package that this one does not know; see `run`."""

    name: str
    help: str
    # The module whose `run(args)` carries it out, imported when the command is given.
    module: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


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
    args = parse(arguments, others=others)
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


def _module_of(command: str, others: Sequence[Command]) -> str:
    modules = {other.name: other.module for other in others}
    return modules.get(command) or f"danet_jax.commands.{command.replace('-', '_')}"


def _status(error: BaseException, args: argparse.Namespace) -> int | None:
    """Shows why a command ended and returns its exit status; None for an unexpected error."""
    if reason := exhausted(error):
        # This comes first, since code that reads files may take a lack of resources for damage.
        return _explain(f"{reason}. {_EXHAUSTED}", debug=args.debug)
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
        case UserError() | DataError():
            return _explain(str(error), debug=args.debug)
        case OSError() if error.filename is not None or error.errno in _DISK_FULL:
            file = "" if error.filename is None else f"{error.filename}: "
            return _explain(f"{file}{error.strerror or error}", debug=args.debug)
    return None


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def parse(
    arguments: Sequence[str] | None = None, *, others: Sequence[Command] = ()
) -> argparse.Namespace:
    """Returns the command's arguments; `overrides` holds the --config.FIELD=VALUE ones."""
    parser, commands = _make_parser(others)
    args, rest = parser.parse_known_args(arguments)
    if args.version:
        show("\n".join(f"{name} {version}" for name, version in _versions().items()))
        parser.exit(0)
    if args.command is None:
        parser.print_help(sys.stderr)
        parser.exit(2)
    for argument in rest:
        if argument.startswith("--config.") and "=" not in argument:
            commands[args.command].error(f"{argument} needs a value: {argument}=VALUE")
    unknown = [argument for argument in rest if not argument.startswith("--config.")]
    if unknown or (rest and args.command == "export"):
        hint = "" if args.command == "export" else "; a config field is --config.FIELD=VALUE"
        commands[args.command].error(f"unknown arguments: {' '.join(unknown or rest)}{hint}")
    args.overrides = rest
    given = {f"--{name.replace('_', '-')}": value for name, value in vars(args).items()}
    overrides = {name: value for name, _, value in (text.partition("=") for text in rest)}
    given |= {name: overrides[name] for name in _PATH_FIELDS if name in overrides}
    try:
        for option, value in given.items():
            if isinstance(value, str | Path):
                check_local(value, name=option)
    except UserError as error:
        commands[args.command].error(str(error))
    return args


def _make_parser(
    others: Sequence[Command],
) -> tuple["_Parser", dict[str, "_Parser"]]:
    """Returns the parser of all arguments, and by name those of the commands."""
    parser = _Parser(
        prog="main.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="store_true", help="show the versions of this and of what it runs on"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    added = {
        name: commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, text in (COMMANDS | {other.name: other.help for other in others}).items()
    }
    added["prepare"].add_argument("--config", required=True, help=CONFIG_HELP)
    added["prepare"].add_argument(
        "--source", type=Path, help="folder of the original files, for data sets made from files"
    )
    added["prepare"].add_argument(
        "--storage",
        choices=("original", "fast"),
        default="original",
        help="store the images' original files (default), or their pixels, which are lossless, "
        "larger and faster to read; JPEG files are stored as they are in either case",
    )
    added["inspect"].add_argument("--config", required=True, help=CONFIG_HELP)
    added["inspect"].add_argument(
        "--examples", type=int, default=64, help="number of examples; default: 64"
    )
    added["train"].add_argument(
        "--config", help=f"{CONFIG_HELP}; may be left out to continue a workdir"
    )
    added["train"].add_argument(
        "--fresh", action="store_true", help="move an old run in the workdir aside and start anew"
    )
    importing = added["import-torch"]
    importing.add_argument(
        "--checkpoint", required=True, type=Path, help=".pth, .pth.tar or .safetensors file"
    )
    importing.add_argument("--config", required=True, help=f"{CONFIG_HELP}, of the same network")
    importing.add_argument(
        "--allow-partial", action="store_true", help="list what does not fit instead of refusing it"
    )
    importing.add_argument(
        "--fresh", action="store_true", help="move an old run in the workdir aside"
    )
    added["export"].add_argument(
        "--format", required=True, choices=("torch", "stablehlo", "onnx"), help="of the model"
    )
    for name in ("train", "eval", "import-torch", "export", "predict"):
        added[name].add_argument(
            "--workdir",
            required=True,
            type=Path,
            help="folder of the run: checkpoints, metrics, report",
        )
    for name in ("train", "eval"):
        added[name].add_argument(
            "--profile",
            action="store_true",
            help="say where the time goes, and write a trace of some steps to WORKDIR/profile",
        )
    added["eval"].add_argument("--split", help="split to evaluate; default: config.data.eval_split")
    for name in ("eval", "export", "predict"):
        added[name].add_argument(
            "--step", type=int, help="step of the checkpoint; default: the best"
        )
    added["predict"].add_argument("--input", required=True, type=Path, help="an image or a folder")
    added["eval"].add_argument(
        "--submission",
        type=Path,
        help="folder for the predicted labels and their archive, as the benchmark's server takes "
        "them; for a test set without labels: --split=test",
    )
    checking = added["check-submission"]
    checking.add_argument("--config", required=True, help=f"{CONFIG_HELP}, of the data set")
    checking.add_argument("--input", required=True, type=Path, help="folder of predicted labels")
    checking.add_argument(
        "--split", default="test", help="split that the labels belong to; default: test"
    )
    for name in ("export", "predict"):
        added[name].add_argument(
            "--output", required=True, type=Path, help="folder for the results"
        )
    for other in others:
        other.add_arguments(added[other.name])
    for command in added.values():
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser, added


def _versions() -> dict[str, str]:
    return {"danet-jax": __version__} | package_versions((*PACKAGES, *OPTIONAL))


class _Parser(argparse.ArgumentParser):
    """Prints messages without the control characters in the arguments that they repeat."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            show(message.rstrip("\n"), file=file or sys.stderr)


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
