"""Lets Airflow manage the containers of this project's jobs through the Docker API, and nothing else."""
