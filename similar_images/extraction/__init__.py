"""Whole lists of photos to vectors files."""
