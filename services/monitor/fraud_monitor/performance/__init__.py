"""The champion's performance in service: figures on mature labels, latency, trend, report."""
