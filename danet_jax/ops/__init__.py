"""What networks compute with: pure functions, an operation a file, each with explicit forms."""
