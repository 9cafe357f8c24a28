"""Drift of a model's inputs, of its target and of its performance, against its reference profile."""
