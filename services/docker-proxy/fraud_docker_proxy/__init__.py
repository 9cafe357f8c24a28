"""What Airflow may ask of the Docker daemon: jobs of this project, and nothing else."""
