"""DANet from the command line; `python main.py COMMAND --help` tells what each command takes."""

from collections.abc import Sequence

from benchmarks.arguments import BENCHMARK
from danet_jax.commands import command_line


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs a command of the package, or the benchmark, which stands beside the package."""
    return command_line.run(arguments, others=(BENCHMARK,))


if __name__ == "__main__":
    raise SystemExit(run())
