"""The performance of a model in service: figures on mature labels, and what they say of it."""
