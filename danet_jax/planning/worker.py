"""Compiles a step of training for absent chips, in a process of its own: compilers may abort.

    python -m danet_jax.planning.worker < TASK > RESULT

TASK is {"config": …, "topology": "v5e:2x2"}; the last line of RESULT is a JSON object, as
`measure` returns it.
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import ml_collections
from jax.experimental import topologies

from danet_jax.base.texts import show
from danet_jax.planning import operations, program
from danet_jax.planning.chips import Topology, parse_topology
from danet_jax.runs import config as configuration
from danet_jax.runtime import parallel
from danet_jax.training.setup import Setup, set_up
from danet_jax.training.state import update_state

# The length of a training changes a number in its program, and nothing else.
TOTAL_STEPS = 1000


def main() -> None:
    task = json.load(sys.stdin)
    result = measure(configuration.restore(task["config"]), parse_topology(task["topology"]))
    show(json.dumps(result))


def absent_devices(topology: Topology) -> list[jax.Device]:
    """Returns devices that are not here, for which programs can be compiled."""
    if topology.chip.platform == "tpu":
        options: dict[str, Any] = {}
        if topology.chips == 1:
            # A host is taken to have four chips otherwise.
            options["chips_per_host_bounds"] = (1, 1, 1)
        return list(topologies.get_topology_desc(topology.name, "tpu", **options).devices)
    description = Path(__file__).with_name(f"{topology.chip.name}.txtpb").read_text()
    # The shape is slices × hosts × GPUs of a host.
    return list(
        topologies.get_topology_desc(
            topology.chip.name,
            "cuda",
            target_config=description,
            topology=f"1x1x{topology.chips}",
        ).devices
    )


def measure(
    config: ml_collections.ConfigDict,
    topology: Topology,
    devices: list[jax.Device] | None = None,
) -> dict[str, Any]:
    """Returns what a step is made of, as plain numbers; all are of one chip where not said.

    Args:
      config: the experiment.
      topology: the chips.
      devices: to compile for; None for those of the topology.
    """
    devices = absent_devices(topology) if devices is None else devices
    # The chips' figures are shared out by this number.
    assert len(devices) == topology.chips
    mesh = parallel.create_mesh(space=config.mesh.space, devices=devices)
    with jax.set_mesh(mesh):
        setup = set_up(config, mesh, TOTAL_STEPS)
        total = operations.count_operations(
            update_state, setup.abstract_state(), setup.abstract_batch()
        )
        began = time.monotonic()
        step: Any = setup.cached_step().compiled
        seconds = time.monotonic() - began
    compiled = step.program
    contents = program.read_contents(compiled.as_text())
    return (
        _sizes(setup)
        | _memory(compiled.memory_analysis())
        | {
            "compile_seconds": seconds,
            "operations": total / mesh.size,
            "bytes_accessed": contents.bytes,
            "bytes_sent": contents.sent,
            "collectives": [
                {"kind": one.kind, "bytes": one.bytes, "group": one.group, "count": count}
                for one, count in sorted(
                    contents.collectives.items(), key=lambda item: -item[0].bytes * item[1]
                )
            ],
            "kernels": contents.kernels,
            "xla": _analysis(compiled),
        }
    )


def _sizes(setup: Setup) -> dict[str, int]:
    """Bytes of the parts of a state; each chip holds all of it."""
    state = setup.abstract_state()
    return {
        "parameter_count": sum(math.prod(x.shape) for x in jax.tree.leaves(state.params)),
        "parameter_bytes": _bytes((state.params, state.batch_stats)),
        "optimizer_bytes": _bytes((state.opt_state, state.ema)),
    }


def _bytes(tree: Any) -> int:
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _memory(analysis: Any) -> dict[str, int]:
    # The state is given away, and the new one takes its place.
    kept = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return {
        "argument_bytes": analysis.argument_size_in_bytes,
        "temporary_bytes": analysis.temp_size_in_bytes,
        "program_bytes": analysis.generated_code_size_in_bytes,
        "memory_bytes": analysis.argument_size_in_bytes + kept + analysis.temp_size_in_bytes,
    }


def _analysis(compiled: Any) -> dict[str, float]:
    """XLA's own figures, where it has any; it counts one round of each loop."""
    analysis = compiled.cost_analysis() or {}
    return {name: analysis[name] for name in ("flops", "bytes accessed") if name in analysis}


if __name__ == "__main__":
    main()
