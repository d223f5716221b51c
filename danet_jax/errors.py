"""The one kind of failure that a person can act on."""


class UserError(ValueError):
    """What is wrong, where, and what to do; the command line prints it and exits with status 2."""
