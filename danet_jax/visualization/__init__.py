"""Overlays, curves, and pages of results and of data sets."""

import logging

# Matplotlib reads a matplotlibrc of the current folder, which has no effect on what is drawn here,
# and warns of what it does not understand in it.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
