"""Releases: a canary that serves a share of the traffic, a shadow that serves none, and their verdicts."""
