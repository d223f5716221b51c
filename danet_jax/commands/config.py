"""`config`: every field of an experiment, with its comment, its value, and where that came from."""

import argparse
import textwrap
from collections.abc import Sequence

from danet_jax.base.texts import show
from danet_jax.runs import experiments
from danet_jax.runs.config_fields import explain

_WIDTH = 100
# Where a value came from, as it is printed; a default needs no word.
_ORIGINS = {
    "default": "",
    "experiment": "  (experiment)",
    "argument": "  (argument)",
    "override": "  (override)",
    "follows": "  (follows from other fields)",
}


def run(args: argparse.Namespace) -> None:
    show_fields(args.config, args.overrides, changed=args.changed)


def show_fields(spec: str, overrides: Sequence[str], *, changed: bool = False) -> None:
    """Prints the fields of an experiment; with `changed` those alone that are no defaults."""
    group = ""
    for field in explain(spec, overrides):
        if changed and field.origin == "default":
            continue
        if (first := field.name.partition(".")[0]) != group:
            show("")
            group = first
        for line in textwrap.wrap(field.comment, _WIDTH - 2):
            show(f"# {line}")
        show(f"config.{field.name} = {field.value!r}{_ORIGINS[field.origin]}")


def show_arguments(name: str) -> None:
    """Prints what an experiment is, and the arguments that it takes."""
    path = experiments.find(name)
    show(experiments.title(path))
    known = experiments.arguments(path)
    if not known:
        show("It has no list of ARGUMENTS; its get_config says what it takes.")
        return
    show(f"--config={name}:ARGUMENT,ARGUMENT,… takes these arguments:")
    for argument, meaning in known.items():
        lines = textwrap.wrap(meaning, _WIDTH - 16)
        show("\n".join(f"  {argument if not i else '':<14}{line}" for i, line in enumerate(lines)))
