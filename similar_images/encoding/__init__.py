"""Encoders: pixels to vectors."""
