"""One side of a benchmark, in a process of its own: `python -m benchmarks.side TASK`, in JSON."""

import json
import sys

from benchmarks import turns


def main() -> None:
    task = json.loads(sys.argv[1])
    start = turns.resident()
    from benchmarks import ours
    from danet_jax.runs import config as configuration

    side, uncounted = ours, 0
    if task["framework"] != "danet-jax":
        # JAX only describes the network there, and is none of PyTorch's memory.
        uncounted = turns.resident() - start
        if task["platform"] == "cpu":
            turns.limit_memory()
        from benchmarks import torch_peers as side

        side.check(task["platform"])

    config = configuration.restore(task["config"])
    build = side.BUILDERS[task["what"]]

    def peak():
        of_device = side.device_peak()
        return turns.peak() - uncounted if of_device is None else of_device

    turns.serve(lambda case, variant: build(config, case, variant), peak)


if __name__ == "__main__":
    main()
