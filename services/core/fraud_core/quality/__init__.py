"""Data quality: each check compares what was counted in a window with a bound and gives a `Check`."""
