"""Flower's settings (`airflow celery flower --flower-conf=…`): who may look at it.

Given as a list because the command line and the variable split a password at its commas, and let in whoever
knows the first piece.
"""

import os

if not os.environ.get("AIRFLOW_PASSWORD"):
    raise SystemExit("AIRFLOW_PASSWORD is not set: set it to the password of the web UI.")

basic_auth = [f"airflow:{os.environ['AIRFLOW_PASSWORD']}"]
