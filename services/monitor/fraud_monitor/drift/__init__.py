"""Drift of the champion's inputs, of its target and of its performance."""
