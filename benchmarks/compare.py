"""Measures participants interleaved, and shows the results as a table and a plot.

Interleaved, so that what else the machine does slows all of them down alike.
"""

import contextlib
import io
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ml_collections
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.cases import Group, Participant
from benchmarks.worker import Worker, WorkerError
from danet_jax.base.errors import UserError
from danet_jax.runs.versions import package_versions
from danet_jax.visualization import curves

PACKAGES = ("jax", "jaxlib", "flax", "torch", "mmsegmentation")
Record = dict[str, Any]


class Machine(NamedTuple):
    """What the programs run on."""

    name: str
    # "cpu", "gpu" or "tpu".
    platform: str
    # Operations per second of a large product of matrices, the most that can be expected.
    rate: float


def measure(
    config: ml_collections.ConfigDict,
    what: str,
    groups: Sequence[Group],
    *,
    repetitions: int,
    platform_name: str,
    say: Callable[[str], None] = print,
    until: float | None = None,
) -> list[Record]:
    """Returns a record of each case and participant.

    Args:
      config: the experiment.
      what: one of `arguments.MEASURED`.
      groups: the cases, from `cases.groups`.
      repetitions: how often each participant runs each case.
      platform_name: where all participants compute, from `probe`.
      say: is told what is going on.
      until: when all that still runs is stopped, in seconds of `time.monotonic`; None for never.
    """
    records: list[Record] = []
    for group in groups:
        with contextlib.ExitStack() as stack:
            started: dict[str, Worker] = {}
            workers: dict[Participant, Worker] = {}
            for participant in group.participants:
                key = participant.framework if group.shared else participant.name
                if key not in started:
                    task = {"framework": participant.framework, "what": what}
                    task["platform"] = platform_name
                    started[key] = Worker(task | {"config": config.to_dict()}, until=until)
                    stack.callback(started[key].close)
                workers[participant] = started[key]
            for case in group.cases:
                measured = _measure_case(workers, case, repetitions=repetitions, say=say)
                # A process's peak is a case's where the process has had no other case.
                if len(group.cases) == 1 and not group.shared:
                    for participant, worker in workers.items():
                        with contextlib.suppress(WorkerError):
                            measured[participant]["peak"] = worker.ask({"peak": True})["peak"]
                records += measured.values()
    return records


def _measure_case(
    workers: dict[Participant, Worker],
    case: dict[str, Any],
    *,
    repetitions: int,
    say: Callable[[str], None],
) -> dict[Participant, Record]:
    records: dict[Participant, Record] = {}
    for participant, worker in workers.items():
        # The files of earlier versions have "side" as well for the participant's name.
        record = records[participant] = {"case": case, "side": participant.name, "seconds": []}
        try:
            record |= worker.ask({"case": case, "variant": participant.variant})
            say(f"{case['name']}, {participant.name}: first after {record['first']:.2f} s")
        except WorkerError as error:
            record["failed"] = str(error)
            say(f"{case['name']}, {participant.name}: failed: {error}")
    for _ in range(repetitions):
        for participant, worker in workers.items():
            record = records[participant]
            if "failed" not in record:
                try:
                    record["seconds"].append(worker.ask({"run": participant.variant})["seconds"])
                except WorkerError as error:
                    record["failed"] = str(error)
    return records


def probe(config: ml_collections.ConfigDict, *, until: float | None = None) -> Machine:
    """Returns what the programs run on, and how fast it multiplies in the config's type.

    Args:
      config: the experiment.
      until: when it is stopped, in seconds of `time.monotonic`; None for never.

    Raises:
      UserError: not even a product of matrices can be computed.
    """
    task = {"framework": "danet-jax", "what": "matmul"}
    # A process of its own does it, since this one must hold nothing of an accelerator.
    worker = Worker(task | {"config": config.to_dict()}, until=until)
    with contextlib.closing(worker):
        try:
            product = worker.ask({"case": {}, "variant": ""})["value"]
            seconds = [worker.ask({"run": ""})["seconds"] for _ in range(5)]
        except WorkerError as error:
            raise UserError(f"JAX does not compute here: {error}") from error
    name = _processor() if product["platform"] == "cpu" else product["device"]
    return Machine(name, product["platform"], product["operations"] / float(np.median(seconds)))


def versions() -> dict[str, str]:
    """Returns the versions of what takes part, where it is installed."""
    return package_versions(PACKAGES)


def _processor() -> str:
    """The processor's name and how many cores this process may use."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((li.partition(": ")[2] for li in lines if li.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def quartiles(record: Record) -> tuple[float, float, float]:
    """Returns the quartiles of a record's seconds; not a number where it has none."""
    if not record["seconds"]:
        return (np.nan,) * 3
    low, middle, high = np.percentile(record["seconds"], [25, 50, 75])
    return float(low), float(middle), float(high)


def ratio(record: Record, records: Sequence[Record]) -> float:
    """Returns how many times faster than the case's first peer, or else first record, this is."""
    case = [r for r in records if r["case"] == record["case"] and r["seconds"]]
    peers = [r for r in case if not r["side"].startswith("danet-jax")]
    return quartiles((peers or case)[0])[1] / quartiles(record)[1]


def table(records: Sequence[Record], *, rate: float, title: str) -> Table:
    """Returns the table for a terminal.

    Args:
      records: from `measure`.
      rate: operations per second of a large product of matrices.
      title: stands above it.
    """
    shown = Table(title=title, title_justify="left", caption_justify="left")
    shown.add_column("")
    columns = ("seconds", "quartiles", "ratio", "of matmul", "peak MB", "temporaries MB", "first")
    for name in columns:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.caption = (
        "ratio: times faster than the first peer; of matmul: direct convolutions' operations a "
        f"second, by those of a large product ({rate / 1e9:.0f} GFLOP/s); peak: of the process, "
        "or of an accelerator's memory; first: seconds to the end of the first one, compilation "
        "included"
    )
    previous = None
    for record in records:
        case = record["case"]
        if case != previous:
            shown.add_section()
            work = f", {_digits(case['operations'] / 1e9)} GFLOP" if "operations" in case else ""
            shown.add_row(f"[bold]{case['name']}{work}")
            previous = case
        if not record["seconds"]:
            shown.add_row(f"  {record['side']}", "failed")
            continue
        low, middle, high = quartiles(record)
        share = case.get("operations", np.nan) / middle / rate
        shown.add_row(
            f"  {record['side']}",
            _digits(middle),
            f"{_digits(low)} – {_digits(high)}",
            f"{ratio(record, records):.2f}",
            f"{100 * share:.0f} %" if np.isfinite(share) else "",
            _megabytes(record.get("peak")),
            _megabytes(record.get("temporaries")),
            f"{record['first']:.1f}",
        )
    return shown


def _digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _megabytes(value: int | None) -> str:
    return "" if value is None else f"{value / 1e6:.0f}"


@curves.own_settings()
def plot(records: Sequence[Record], *, title: str) -> bytes:
    """Draws each participant's seconds, with quartiles, case by case; returns a PNG."""
    measured = [record for record in records if record["seconds"]]
    names = list(dict.fromkeys(record["case"]["name"] for record in measured))
    participants = list(dict.fromkeys(record["side"] for record in measured))
    width = 0.8 / max(len(participants), 1)
    height = max(1.0 + 0.28 * len(names) * max(len(participants), 2), 2.5)
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = figure.add_subplot()
    colors = [f"C{number}" for number in range(10)]
    for index, participant in enumerate(participants):
        own = [record for record in measured if record["side"] == participant]
        offset = (index + 0.5) * width - 0.4
        y = [names.index(record["case"]["name"]) + offset for record in own]
        low, middle, high = np.array([quartiles(record) for record in own]).T
        error = np.stack([middle - low, high - middle])
        color = colors[index % len(colors)]
        axes.barh(y, middle, 0.9 * width, xerr=error, label=participant, color=color)
        for row, value, end in zip(y, middle, high, strict=True):
            axes.annotate(
                f"{_digits(value)} s",
                (end, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds, median and quartiles")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)
    # The legend stands outside, since inside it would hide the longest bars' numbers.
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
