#!/bin/sh
# Prepares Airflow for its start: migrates the metadata, sets up the log-in and the connections. Running it again
# applies changes of the environment and keeps the rest.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
exec "${AIRFLOW_PYTHON:-python3}" "$here/initialise.py" "$@"
