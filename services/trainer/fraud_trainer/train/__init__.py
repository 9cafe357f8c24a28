"""`train`: preparation, split in time, the chosen candidate, its calibration, thresholds and files."""
