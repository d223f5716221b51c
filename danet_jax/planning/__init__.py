"""What a training will need on accelerators that are absent: compiled for them, and counted."""
