"""Weights from other libraries in."""
