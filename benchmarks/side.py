"""One side of a benchmark, in a process of its own: `python -m benchmarks.side TASK`, in JSON."""

import json
import sys

from benchmarks import turns
from danet_jax import configuration


def main() -> None:
    task = json.loads(sys.argv[1])
    config = configuration.restore(task["config"])
    if task["framework"] == "danet-jax":
        from benchmarks import ours as side
    else:
        turns.limit_memory()
        from benchmarks import torch_peers as side

    build = side.BUILDERS[task["what"]]
    turns.serve(lambda case: build(config, case, task["variant"]), side.device_peak)


if __name__ == "__main__":
    main()
