"""Checks of a source's files: each pair by itself, then the whole data set.

Imports go one way: pairs ← mistakes ← reading ← verification, and pairs ← survey ← label_ids ←
diagnosis ← summary.
"""
