"""The arguments of `danet`: what each command takes, and hints for what is misspelt."""

import argparse
import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from danet_jax import __version__
from danet_jax.base.errors import UserError
from danet_jax.base.files import check_local
from danet_jax.base.texts import show
from danet_jax.base.wording import program
from danet_jax.runs.versions import OPTIONAL, PACKAGES, package_versions

DESCRIPTION = "DANet: train, evaluate and use dual attention networks for scene segmentation."
EPILOG = """a field of the config is changed with --config.FIELD=VALUE, for example
  {program} train --config=camvid --workdir=runs/camvid --config.train.epochs=40
--config=NAME:help lists the arguments of an experiment, --config.help all fields"""
# Each command is a module beside this one. It is imported when the command is given, since JAX and
# TFDS take seconds.
COMMANDS = {
    "configs": "list the experiments that come with this package, and their arguments",
    "config": "show every field of an experiment, its value, and where that came from",
    "prepare": "write a data set to disk in the form that training reads",
    "inspect": "write a page of training examples, as they are after augmentation",
    "plan": "say what a training takes on TPUs and GPUs that are not here",
    "train": "train, or continue the run of a workdir; writes a report at the end",
    "eval": "score a run's best checkpoint and write the report",
    "check-submission": "check a folder of labels for what a benchmark's server would refuse",
    "import-torch": "make a workdir from PyTorch weights: the original's or mmsegmentation's",
    "export": "write the model as PyTorch weights, StableHLO, ONNX or a folder to share",
    "push": "write a folder of `export --format=folder` to a hub",
    "predict": "label images: palette PNG, overlay and class shares",
}
CONFIG_HELP = "experiment, NAME or FILE.py, with arguments NAME:ARGUMENT,ARGUMENT"
# The fields of a config that are paths.
_PATH_FIELDS = ("--config.data.data_dir", "--config.model.pretrained_backbone")

# Commands that read no config from the command line.
_WITHOUT_FIELDS = ("configs", "export", "push")
_REQUIRED = re.compile(r"arguments are required: (.*)")
_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


@dataclasses.dataclass(frozen=True)
class Command:
    """A command of a package that this one does not know; see `run`."""

    name: str
    help: str
    # The module whose `run(args)` carries it out, imported when the command is given.
    module: str
    add_arguments: Callable[[argparse.ArgumentParser], None]


def asked_help(arguments: Sequence[str]) -> tuple[str, bool] | None:
    """Returns the experiment of `--config=NAME:help` or `--config.help`; None for anything else.

    The second value says whether its arguments were asked for, and not its fields. The experiment
    is "" where none is named.
    """
    spec = ""
    for index, argument in enumerate(arguments):
        if argument == "--config":
            spec = "".join(arguments[index + 1 : index + 2])
        elif argument.startswith("--config="):
            spec = argument.removeprefix("--config=")
    name, _, argument = spec.partition(":")
    if argument == "help":
        return name, True
    return (spec, False) if "--config.help" in arguments else None


def parse(
    arguments: Sequence[str] | None = None, *, others: Sequence[Command] = ()
) -> argparse.Namespace:
    """Returns the command's arguments; `overrides` holds the --config.FIELD=VALUE ones."""
    parser, commands = _make_parser(others)
    if "_ARGCOMPLETE" in os.environ:
        _complete(parser, commands)
    _Parser.given = sys.argv[1:] if arguments is None else arguments
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
    if unknown or (rest and args.command in _WITHOUT_FIELDS):
        hint = "" if args.command in _WITHOUT_FIELDS else "; a config field is --config.FIELD=VALUE"
        options = [
            name for action in commands[args.command]._actions for name in action.option_strings
        ]
        for argument in unknown:
            option = argument.partition("=")[0]
            if near := difflib.get_close_matches(option, options, n=1):
                hint = f". Did you mean {near[0]}?"
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
        prog=program(),
        description=DESCRIPTION,
        epilog=EPILOG.format(program=program()),
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
            epilog=EPILOG.format(program=program()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        for name, text in (COMMANDS | {other.name: other.help for other in others}).items()
    }
    added["config"].add_argument("--config", required=True, help=CONFIG_HELP)
    added["config"].add_argument(
        "--changed", action="store_true", help="only fields that are not at their defaults"
    )
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
    added["plan"].add_argument("--config", required=True, help=CONFIG_HELP)
    added["plan"].add_argument(
        "--topology",
        required=True,
        nargs="+",
        help="chips and how they are joined, such as v5e:16x16, v5p:2x2x2 or h100:8",
    )
    added["plan"].add_argument(
        "--images",
        type=int,
        help="images of the training split, where the data set is not prepared",
    )
    added["plan"].add_argument(
        "--no-remedies",
        action="store_true",
        help="where a step does not fit, do not try what would",
    )
    added["plan"].add_argument("--output", type=Path, help="folder for plan.json and plan.html")
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
        "--format",
        required=True,
        choices=("torch", "stablehlo", "onnx", "folder"),
        help="of the model; folder: what Predictor.from_folder reads, with a model card",
    )
    pushing = added["push"]
    pushing.add_argument(
        "--folder", required=True, type=Path, help="what `export --format=folder` wrote"
    )
    pushing.add_argument("--repo", required=True, help="repository of the hub, OWNER/NAME")
    pushing.add_argument(
        "--private", action="store_true", help="only its owner sees it, where it is made now"
    )
    pushing.add_argument("--revision", default="main", help="branch to write to; default: main")
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


def _complete(parser: "_Parser", commands: Mapping[str, "_Parser"]) -> NoReturn:
    """Answers a shell that completes commands, options, experiments and fields; see README."""
    import argcomplete

    from danet_jax.runs import config_fields, experiments

    files = argcomplete.FilesCompleter(allowednames=(".py",))

    def complete_experiments(prefix: str, **options: Any) -> list[str]:
        return [*experiments.shipped(), *files(prefix, **options)]

    for name, command in commands.items():
        for action in command._actions:
            if "--config" in action.option_strings:
                action.completer = complete_experiments  # type: ignore[attr-defined]
        if name not in _WITHOUT_FIELDS:
            for field in config_fields.comments():
                command.add_argument(f"--config.{field}", help=argparse.SUPPRESS)
    argcomplete.autocomplete(parser, exclude=("--help", "-h"), print_suppressed=True)
    parser.exit(0)


def _versions() -> dict[str, str]:
    return {"danet-jax": __version__} | package_versions((*PACKAGES, *OPTIONAL))


class _Parser(argparse.ArgumentParser):
    """Prints messages without the control characters in the arguments that they repeat."""

    # What was typed, for hints.
    given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        """Adds what was probably meant to a message on a choice or an option that is none."""
        hint = ""
        if match := _INVALID_CHOICE.search(message):
            known = re.findall(r"[\w-]+", match[2])
            if near := difflib.get_close_matches(match[1], known, n=1):
                hint = f". Did you mean {near[0]}?"
        elif match := _REQUIRED.search(message):
            options = [text.partition("=")[0] for text in self.given if text.startswith("--")]
            for name in match[1].split(", "):
                if near := difflib.get_close_matches(name, options, n=1):
                    hint = f". Did you mean {name} in place of {near[0]}?"
        super().error(message + hint)

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            show(message.rstrip("\n"), file=file or sys.stderr)
