"""Changes of a config that make a step fit into less memory."""

import dataclasses
from collections.abc import Iterator

import ml_collections

from danet_jax.base.errors import UserError
from danet_jax.configs import rules
from danet_jax.planning.chips import Topology

# The share of a GPU's memory that JAX takes at its start, unless the variable says otherwise. A TPU
# is taken whole.
GPU_SHARE = 0.75
GPU_VARIABLE = "XLA_PYTHON_CLIENT_MEM_FRACTION"


@dataclasses.dataclass(frozen=True)
class Remedy:
    """One change, as arguments of the command line, and what it costs."""

    overrides: tuple[str, ...]
    cost: str
    config: ml_collections.ConfigDict


def usable_memory(topology: Topology) -> int:
    """Returns the bytes that a program may take of a chip."""
    if topology.chip.platform == "gpu":
        return int(GPU_SHARE * topology.chip.memory)
    return topology.chip.memory


def remedies(config: ml_collections.ConfigDict, topology: Topology) -> Iterator[Remedy]:
    """Yields the changes that a step of this config can be tried with, the cheapest first."""
    batch, parts = config.train.batch_size, config.train.accumulation_steps
    examples = batch * config.mesh.space // topology.chips // parts
    least: dict[str, object] = {}
    candidates: list[tuple[dict[str, object], str]] = []
    for field, value, cost in (
        ("model.dtype", "bfloat16", "activations of 8 bits of precision"),
        ("model.remat", "block", "about a quarter more time"),
    ):
        section, name = field.split(".")
        if config[section][name] != value:
            candidates.append(({field: value}, cost))
            least[field] = value
    if len(least) > 1:
        candidates.append((least, "both of these"))
    # What changes more is tried together with them.
    if examples > 1:
        halved = least | {"train.accumulation_steps": 2 * parts}
        candidates.append((halved, "batch norm sees half as many examples"))
    space = 2 * config.mesh.space
    local = min(topology.chips, topology.chip.per_host)
    if local % space == 0 and config.data.crop_size[0] % space == 0:
        shared = least | {"mesh.space": space}
        candidates.append((shared, "chips exchange the edges of their rows"))
    if examples > 1:
        smaller = least | {"train.batch_size": batch // 2}
        candidates.append((smaller, "another recipe: halve the learning rate, too"))
    for changes, cost in candidates:
        changed = config.copy_and_resolve_references()
        with changed.unlocked():
            changed.update_from_flattened_dict(changes)
        try:
            rules.check(changed)
        except UserError:
            continue
        if changed.train.batch_size % (changed.train.accumulation_steps * _data(changed, topology)):
            continue
        overrides = tuple(f"--config.{name}={value}" for name, value in changes.items())
        yield Remedy(overrides, cost, changed)


def _data(config: ml_collections.ConfigDict, topology: Topology) -> int:
    """Among how many groups of chips a batch is divided."""
    return topology.chips // config.mesh.space
