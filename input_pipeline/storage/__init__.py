"""Prepared data sets on disk: how they are written, found by name, and read by index."""
