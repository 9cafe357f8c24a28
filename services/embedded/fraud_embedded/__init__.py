"""The embedded stack: every server of the platform on one machine, from Python packages alone."""
