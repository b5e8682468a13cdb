"""Corrupted copies of a set of images, as files."""
