"""Releases: who is served by a canary, through which states a release goes, and what its evidence says."""
