"""DANet from the command line; `python main.py COMMAND --help` tells what each command takes."""

from danet_jax.commands import command_line

if __name__ == "__main__":
    raise SystemExit(command_line.run())
