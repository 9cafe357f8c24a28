"""Runs the DAGs of this folder, all in this one process, because Airflow takes seconds to start.

Before the log of each DAG, or of each group of DAGs, stands the line `RUN NAME`.
"""

from __future__ import annotations

import alerts
import api_requests
import model_questions

if __name__ == "__main__":
    for module in (api_requests, alerts, model_questions):
        module.run_all()
