"""What runs jobs; each has the interface `fraud_airflow.jobs.JobRunner`."""
