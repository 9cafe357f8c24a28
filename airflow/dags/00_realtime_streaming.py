"""# Scoring of what has arrived, every ten seconds

Reads transactions from Kafka, has the API score them, and stores transactions and predictions, in batches
of up to 100 until the topic is drained or 8 seconds are over; then the labels topic likewise. What is left
is for the next run; nothing is lost or doubled. While a follower is at work (`make follow`) there is
nothing to do: skipped.

## When it fails

The error in the failed task's log names the variable or the part; the guide is `docs/airflow.md`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from fraud_airflow import checks, completion
from fraud_airflow.defaults import real_time
from operators.docker_operator_custom import FraudDockerOperator

with DAG(
    "00_realtime_streaming",
    description="Kafka to Postgres through the scoring API",
    schedule=timedelta(seconds=10),
    doc_md=__doc__,
    # Whatever has arrived waits for its decision.
    **real_time(
        ["streaming"], paused=False, task_timeout=timedelta(seconds=90), run_timeout=timedelta(minutes=5)
    ),
):
    validate_streaming_config = PythonOperator(
        task_id="validate_streaming_config", python_callable=checks.streaming_config
    )
    run_streaming_prediction = FraudDockerOperator(
        task_id="run_streaming_prediction", service="streaming", verb="run", single="streaming"
    )
    log_streaming_completion = PythonOperator(
        task_id="log_streaming_completion",
        python_callable=completion.streaming,
        op_args=[run_streaming_prediction.output],
        trigger_rule="none_failed",
    )
    validate_streaming_config >> run_streaming_prediction >> log_streaming_completion
