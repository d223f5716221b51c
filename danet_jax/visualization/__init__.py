"""Overlays, curves, and pages of results and of data sets."""
