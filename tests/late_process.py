"""Saves and scores checkpoints in two processes, of which one looks late at what is there.

Prints the steps that each process knows of in the end.
"""

import sys
import time
from pathlib import Path

import jax
import numpy as np

from danet_jax.runs import checkpoints
from danet_jax.runtime import parallel

# The last is the best, so that the first, which was the best before, is removed after the score.
SCORES = (0.4, 0.3, 0.2, 0.5)


def main(directory: Path) -> None:
    parallel.initialize(distributed=True)
    if jax.process_index() == 1:
        look = checkpoints._OthersPolicy.may_remove

        def look_late(policy, step):
            time.sleep(0.5)
            return look(policy, step)

        checkpoints._OthersPolicy.may_remove = look_late
    everywhere = parallel.replicated(parallel.create_mesh())
    checkpointer = checkpoints.Checkpointer(directory)
    for step, score in enumerate(SCORES):
        kernel = jax.device_put(np.full(3, step, np.float32), everywhere)
        checkpointer.save(step, {"params": {"kernel": kernel}}, checkpoints.Record({}, {}))
        checkpointer.add_score(step, score)
    steps = parallel.gather(sorted(checkpointer._manager.all_steps()))
    checkpointer.close()
    print(f"steps {steps}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
