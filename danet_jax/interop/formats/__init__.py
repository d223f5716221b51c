"""The formats in which a model is exported, one a file."""
