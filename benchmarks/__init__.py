"""Speed and memory of this project beside PyTorch; the peers need requirements-parity.txt."""
