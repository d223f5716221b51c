"""Prediction with sliding windows and test-time augmentation, scores, and submissions."""
