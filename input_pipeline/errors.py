"""The one kind of failure that a person can act on."""


class DataError(ValueError):
    """What is wrong, in which file, what to do; the command line prints it, exit status 2."""
