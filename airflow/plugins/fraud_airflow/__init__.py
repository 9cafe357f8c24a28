"""Code shared by our DAGs: jobs and their runners, alerts, defaults and checks."""
