"""Names, settings and parameters of the platform."""
