"""Wrong input to the command line, and what the message about it has to say."""

from tests.wrong_input import arguments, data_sets, workdirs
from tests.wrong_input.case import CASES, Place

__all__ = ["CASES", "Place", "arguments", "data_sets", "workdirs"]
