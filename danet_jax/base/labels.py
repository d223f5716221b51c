"""Class ids in label maps: uint8, from 0."""

# Pixels with this label are neither trained on nor scored.
IGNORE_LABEL = 255
