"""JAX made ready for a command: its cache of programs, other processes, devices."""

from danet_jax.runtime import devices, parallel
from danet_jax.runtime.cache import set_up_cache


def start(
    *, distributed: bool | None = False, stop_together: bool = False, announced: bool = True
) -> None:
    """To be called before the first computation.

    Args:
      distributed: join the other processes of a job, None where there are any; see
        `parallel.initialize`.
      stop_together: a SIGTERM to one process is one to all.
      announced: say which devices are used.

    Raises:
      UserError: there are no other processes, or none of the devices that JAX was told to use.
    """
    set_up_cache()
    parallel.initialize(distributed=distributed, stop_together=stop_together)
    if announced:
        devices.announce()
    else:
        devices.check()
