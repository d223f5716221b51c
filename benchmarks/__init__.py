"""This project beside PyTorch, in one run. They need requirements-parity.txt."""
