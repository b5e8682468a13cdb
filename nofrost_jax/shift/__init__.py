"""Accuracy under distribution shift: evaluation sets, the classes that each has, corruptions, scores."""
