"""Starts the MLflow tracking server."""
