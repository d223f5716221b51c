"""The fields of an experiment for a reader: their comments, values, and where those came from."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from danet_jax.configs import common
from danet_jax.runs import experiments
from danet_jax.runs.config import flat, load_config

# A line of configs/common.py that sets a field; groups have ConfigDict() for a value.
_FIELD = re.compile(r"    config\.([a-z0-9_.]+) = (.+)")


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of an experiment."""

    name: str
    value: Any
    # Of configs/common.py, in one line; "" where the field's name says all.
    comment: str
    # "default", "experiment", "argument", "override", or "follows" from other fields.
    origin: str


def comments() -> dict[str, str]:
    """Returns the comment of each field in configs/common.py."""
    found: dict[str, str] = {}
    lines: list[str] = []
    for line in Path(common.__file__).read_text().splitlines():
        stripped = line.strip()
        if stripped.startswith("# "):
            lines.append(stripped.removeprefix("# "))
            continue
        match = _FIELD.fullmatch(line)
        if match and not match[2].startswith("ml_collections."):
            found[match[1]] = " ".join(lines)
        lines = []
    return found


def explain(spec: str, overrides: Sequence[str] = ()) -> list[Field]:
    """Returns all fields of an experiment in the order of configs/common.py.

    Without an experiment ("") the fields have their defaults.

    Raises:
      UserError: see `load_config`.
    """
    known = comments()
    if not spec:
        values = flat(common.get_config())
        return [Field(name, values[name], comment, "default") for name, comment in known.items()]
    final = flat(load_config(spec, overrides))
    name, _, argument = spec.partition(":")
    path = experiments.find(name)
    defaults = flat(common.get_config())
    plain = flat(experiments.run(path, ""))
    chosen = flat(experiments.run(path, argument)) if argument else plain
    overridden = {text.removeprefix("--config.").partition("=")[0] for text in overrides}

    def origin(field: str) -> str:
        if field in overridden:
            return "override"
        if final[field] != chosen[field]:
            return "follows"
        if chosen[field] != plain[field]:
            return "argument"
        return "default" if plain[field] == defaults[field] else "experiment"

    order = {field: index for index, field in enumerate(known)}
    return [
        Field(field, final[field], known.get(field, ""), origin(field))
        for field in sorted(final, key=lambda field: order.get(field, len(order)))
    ]
