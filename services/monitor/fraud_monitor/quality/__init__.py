"""Data quality: reads what the checks need from each source, and stores their outcomes."""
