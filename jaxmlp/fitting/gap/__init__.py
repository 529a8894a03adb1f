"""Sparse Gaussian-process regression."""
