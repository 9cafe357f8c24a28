"""The runners of jobs; each implements `fraud_airflow.jobs.JobRunner`."""
