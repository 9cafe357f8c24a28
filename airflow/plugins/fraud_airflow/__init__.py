"""What our DAGs share: jobs and how they run, alerts, defaults, checks."""
