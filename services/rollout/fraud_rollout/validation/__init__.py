"""Checks before any traffic: files, scores, latency, memory, decisions beside the champion's."""
