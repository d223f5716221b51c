"""Finds, opens, converts, decodes and encodes image files."""
