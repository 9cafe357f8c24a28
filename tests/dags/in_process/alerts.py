"""Tasks that fail, work and alert."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowSkipException

from fraud_airflow.alerting.callbacks import on_failure, on_success
from operators.alert_operator import FraudDetectionAlertOperator

CALLBACKS = {
    "on_failure_callback": on_failure,
    "on_success_callback": on_success,
    "on_skipped_callback": on_success,
}

with DAG("moody", schedule=None, tags=["critical"], default_args=CALLBACKS) as moody:

    @task(retries=1, retry_delay=timedelta(0))
    def work() -> None:
        if os.environ["MOOD"] == "bad":
            raise ValueError("no luck <today>")
        if os.environ["MOOD"] == "idle":
            raise AirflowSkipException("nothing to do")

    work()

with DAG("drift_alerts", schedule=None) as drift_alerts:
    FraudDetectionAlertOperator(
        task_id="tell",
        title="Drift of {{ dag.dag_id }}",
        text="PSI {{ 0.1 + 0.3 }}",
        severity="{{ 'high' }}",
        key="drift/creditcard",
    )


def run_all() -> None:
    """Run the first DAG once for each of MOODS, then the alert twice."""
    print("RUN alerts")
    for mood in os.environ["MOODS"].split(","):
        os.environ["MOOD"] = mood
        print("MOOD", mood, moody.test().state)
    for _ in range(2):
        print("ALERT", drift_alerts.test().state)
