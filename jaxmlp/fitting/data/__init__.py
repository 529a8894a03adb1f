"""Labelled structures: read, checked, split, kept on disk."""
