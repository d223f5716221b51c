"""Class ids in label maps: uint8, from 0."""

# Neither trained on nor scored.
IGNORE_LABEL = 255
