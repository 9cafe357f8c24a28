"""The interface between jobs and their callers: exit codes, labels of the last line, and results.

One module for what every job has, and one for each service. Standard library only: Airflow's image contains
them, so that DAGs can read the results.
"""
