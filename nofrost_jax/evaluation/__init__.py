"""Evaluation: the engine that runs attacks over a data set, and the result files that it writes."""
