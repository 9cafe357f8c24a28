"""Airflow as it is configured here, in a home of the tests' own: nothing is read or left in a person's."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]
_HOME = tempfile.mkdtemp(prefix="fraud-airflow-test-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

# Airflow reads these when it is first imported.
os.environ |= {
    "AIRFLOW_HOME": _HOME,
    "AIRFLOW_CONFIG": str(FOLDER / "config" / "airflow.cfg"),
    "AIRFLOW__CORE__DAGS_FOLDER": str(FOLDER / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(FOLDER / "plugins"),
}
