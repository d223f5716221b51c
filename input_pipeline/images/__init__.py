"""Image files: which there are, how they are opened, converted to RGB, encoded and decoded."""
