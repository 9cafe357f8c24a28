#!/bin/sh
# Makes Airflow ready to start: metadata migrated, the person's log-in, connections. Run again it changes what
# has changed in the environment and keeps the rest.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
exec "${AIRFLOW_PYTHON:-python3}" "$here/initialise.py" "$@"
