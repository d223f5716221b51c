"""The processes of one job, on one host or many: who they are, and that they do the same."""

import json
import socket
from collections.abc import Mapping
from typing import Any

import jax

from danet_jax.base.errors import UserError
from danet_jax.base.texts import one_line
from danet_jax.base.wording import counted, listed
from danet_jax.runtime import parallel, supervision

# Characters of a value that a message shows.
_SHOWN = 60
# Lines of the table at the start: the first processes and the last one.
_LINES = 20


def check_equal(facts: Mapping[str, Any]) -> None:
    """Raises a UserError, in all processes, where one has another value of a fact than the first.

    Otherwise they would train each on its own data or config, and add up what does not belong
    together, or wait for each other for ever.

    Args:
      facts: JSON values by name, such as "config.seed"; of each process its own.
    """
    if jax.process_count() == 1:
        return
    every = parallel.gather({"host": socket.gethostname(), "facts": dict(facts)})
    first = every[0]
    for index, other in enumerate(every[1:], start=1):
        names = sorted(first["facts"].keys() | other["facts"].keys())
        absent = object()
        differing = [
            name
            for name in names
            if first["facts"].get(name, absent) != other["facts"].get(name, absent)
        ]
        if differing:
            name = differing[0]
            more = f" Others that differ: {listed(differing[1:])}." if differing[1:] else ""
            raise UserError(
                f"Process {index} on {one_line(other['host'])} has {name} "
                f"{_text(other['facts'], name)}, and process 0 on {one_line(first['host'])} "
                f"{_text(first['facts'], name)}: start all processes with the same config, data "
                f"and versions.{more}"
            )


def describe(mesh: jax.sharding.Mesh, *, batch_size: int) -> list[str]:
    """Returns a table of the processes in their order; no line for one process.

    All processes call it.

    Args:
      mesh: of `parallel.create_mesh`.
      batch_size: examples that are computed at a time, on all devices.
    """
    if jax.process_count() == 1:
        return []
    kind = jax.local_devices()[0].device_kind
    here = [socket.gethostname(), counted(jax.local_device_count(), "device") + f" ({kind})"]
    rows = [[one_line(text, longest=_SHOWN) for text in row] for row in parallel.gather(here)]
    supervision.tell_hosts([host for host, _ in rows], ours=jax.process_index())
    data, space = mesh.shape["data"], mesh.shape["space"]
    on = f"{space} devices, which share its rows" if space > 1 else "each device"
    shown = [["process", "host", "devices"]]
    shown += [[str(index), *row] for index, row in enumerate(rows)]
    if len(shown) > _LINES:
        shown = [*shown[: _LINES - 2], ["…", "", ""], shown[-1]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    return [
        *lines,
        f"{counted(batch_size // data, 'example')} on {on}; the config, the versions and the data "
        "are the same on all",
    ]


def _text(facts: Mapping[str, Any], name: str) -> str:
    if name not in facts:
        return "(none)"
    text = json.dumps(facts[name], sort_keys=True, ensure_ascii=False)
    return one_line(text, longest=_SHOWN)
