"""The monitor: drift, data quality and performance, judged on stored transactions, predictions and labels."""
