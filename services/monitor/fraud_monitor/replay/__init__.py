"""Verifies that stored decisions can be made again."""
