"""A plan from end to end: a step compiled for absent chips, what it takes, and what would fit."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
from rich.console import Console
from rich.table import Table

from danet_jax import input_pipeline
from danet_jax.base.errors import DataError, NotPreparedError, UserError
from danet_jax.base.files import check_output, replace_file
from danet_jax.base.wording import counted
from danet_jax.configs import rules
from danet_jax.console.terminal import console, say
from danet_jax.planning import checks, compiling, wording
from danet_jax.planning.chips import Topology
from danet_jax.planning.plans import Plan, Tried, fits, is_too_large
from danet_jax.planning.remedies import remedies
from danet_jax.training.checks import count_steps

PLAN_FILE, PLAN_PAGE = "plan.json", "plan.html"
# By this and a checksum a plan's file is recognised.
WRITER = "danet-jax plan"


def plan(
    config: ml_collections.ConfigDict,
    topologies: Sequence[Topology],
    *,
    images: int | None = None,
    try_remedies: bool = True,
) -> list[Plan]:
    """Compiles a training's step for each topology, and where it does not fit, changes of it.

    Args:
      config: the experiment.
      topologies: the chips.
      images: of the training split; None for those of the prepared data set.
      try_remedies: whether to compile changes of a step that does not fit.

    Raises:
      UserError: a compiler is absent, or the batch does not divide over the chips.
    """
    rules.check(config)
    for topology in topologies:
        checks.check_compiler(topology)
        checks.check_divisible(config, topology)
    _settle_classes(config)
    steps = _steps(config, images)
    return [
        _plan(config, topology, steps=steps, try_remedies=try_remedies) for topology in topologies
    ]


def _plan(
    config: ml_collections.ConfigDict,
    topology: Topology,
    *,
    steps: int | None,
    try_remedies: bool,
) -> Plan:
    measured = _measured(config, topology, topology.name)
    tried: list[Tried] = []
    if try_remedies and is_too_large(measured, topology):
        for remedy in remedies(config, topology):
            what = f"{topology.name} with {' '.join(remedy.overrides)}"
            result = _measured(remedy.config, topology, what)
            tried.append(Tried(remedy.overrides, remedy.cost, result, fits(result, topology)))
            if tried[-1].fits:
                # Each of the others takes as long to compile, and costs more.
                break
    return Plan(
        topology=topology,
        batch_size=config.train.batch_size,
        examples=config.train.batch_size
        * config.mesh.space
        / topology.chips
        / config.train.accumulation_steps,
        dtype=config.model.dtype,
        measured=measured,
        steps=steps,
        tried=tuple(tried),
    )


def _measured(config: ml_collections.ConfigDict, topology: Topology, what: str) -> dict[str, Any]:
    """Has a step compiled, and shows meanwhile for how long."""
    with console.status("") as status:

        def show(seconds: float) -> None:
            minutes, rest = divmod(int(seconds), 60)
            status.update(f"compiling for {what}: {minutes}:{rest:02}; it may take many minutes")

        show(0.0)
        result = compiling.measured(config, topology, on_wait=show)
    if "failed" in result:
        say(f"{what}: {result['failed']}")
    elif result.get("kept"):
        say(f"{what}: compiled before")
    else:
        say(f"{what}: compiled in {result['compile_seconds']:.0f} s")
    return result


def _settle_classes(config: ml_collections.ConfigDict) -> None:
    """Takes the number of classes from the prepared data set, where the config leaves it open."""
    if config.model.num_classes is not None:
        return
    data = config.data
    try:
        labels = input_pipeline.labels_of(data.name, data_dir=data.data_dir)
    except DataError as error:
        raise UserError(
            f"config.model.num_classes is open, and {data.name} has no classes of its own until it "
            f"is prepared ({error}): prepare it, or give --config.model.num_classes=NUMBER."
        ) from None
    rules.settle_num_classes(config, labels.num_classes)


def _steps(config: ml_collections.ConfigDict, images: int | None) -> int | None:
    if config.train.steps or images is not None:
        return count_steps(config, images or 1)
    try:
        data = config.data
        return count_steps(
            config,
            len(input_pipeline.open_split(data.name, data.train_split, data_dir=data.data_dir)),
        )
    except NotPreparedError:
        say(
            f"{config.data.name} is not prepared in {config.data.data_dir}, so the length of the "
            "training is not known: give --images=NUMBER for an estimate of hours"
        )
        return None


def print_table(plans: Sequence[Plan]) -> None:
    """Prints the plans, a topology in each column, to standard output."""
    shown = Table(show_lines=False)
    shown.add_column("")
    for one in plans:
        shown.add_column(one.topology.name, justify="right")
    columns = [wording.rows(one) for one in plans]
    for name in columns[0]:
        shown.add_row(name, *(column[name] for column in columns))
    # A file gets the whole table, however wide it is.
    width = None if sys.stdout.isatty() else 40 + 40 * len(plans)
    Console(width=width, highlight=False, markup=False).print(shown)


def check_place(folder: Path) -> None:
    """Raises a UserError where a plan cannot be written, or would overwrite other files."""
    # Imported late, since Matplotlib takes longer than it takes to find a mistake in the config.
    from danet_jax.visualization import marks, pages

    check_output("--output", folder, empty=False)
    pages.check_place(folder / PLAN_PAGE)
    file = folder / PLAN_FILE
    if not os.path.lexists(file):
        return
    if not marks.is_ours(file, WRITER):
        raise UserError(
            f"{file} is not a plan as this program wrote it, and would be lost: move it away first."
        )


def write(plans: Sequence[Plan], config: ml_collections.ConfigDict, folder: Path) -> Path:
    """Writes plan.json and plan.html; returns the page."""
    # Imported late, since Matplotlib takes longer than it takes to find a mistake in the config.
    from danet_jax.visualization import marks
    from danet_jax.visualization.plan_page import write_plan_page

    content = {
        "versions": checks.versions(),
        "config": config.to_dict(),
        "plans": [one.to_dict() for one in plans],
    }
    # Looked at again, since the compilations may have taken hours.
    check_place(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = write_plan_page(
        folder / PLAN_PAGE,
        title=f"Plan of {config.model.backbone}, {counted(config.train.batch_size, 'example')}",
        columns={one.topology.name: wording.rows(one) for one in plans},
        notes=wording.notes(plans),
        facts=checks.versions(),
        config=config.to_dict(),
    )
    replace_file(folder / PLAN_FILE, data=marks.encode_json(content, WRITER))
    return path
