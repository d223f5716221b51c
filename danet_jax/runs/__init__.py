"""The folder of a run: its config, its lock, its history, and its recipe in words."""
