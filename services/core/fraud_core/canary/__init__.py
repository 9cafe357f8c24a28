"""Releases of a model by canary: who is assigned to it, in which state it is, and what its numbers say."""
