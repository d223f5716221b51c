"""How programs are compiled."""

import jax


def options() -> dict[str, str] | None:
    """Returns XLA's options for the platform."""
    if jax.default_backend() != "cpu":
        return None
    # The default scheduler overlaps what does not depend on each other, and holds the memory of
    # both; every product takes all cores already.
    return {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
