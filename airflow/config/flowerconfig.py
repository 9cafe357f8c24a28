"""Flower's settings (`airflow celery flower --flower-conf=…`): its log-in.

The credentials are set as a list here, because the command line and the variable split a password at its
commas and would accept its first part.
"""

import os

if not os.environ.get("AIRFLOW_PASSWORD"):
    raise SystemExit("AIRFLOW_PASSWORD is not set: set it to the password of the web UI.")

basic_auth = [f"airflow:{os.environ['AIRFLOW_PASSWORD']}"]
