"""Weights from and to the PyTorch world, and models that run without this project."""
