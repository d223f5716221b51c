"""`python -m danet_jax`: the command `danet`."""

from danet_jax.commands import command_line

if __name__ == "__main__":
    raise SystemExit(command_line.run())
