"""# Scoring of what has arrived, every ten seconds

Reads transactions from Kafka, has the API score them, and stores transactions and predictions, in batches of
up to 100, until the topic is drained or 8 seconds have passed; then the labels topic in the same way. The
next run continues with the rest; nothing is lost or stored twice. While a follower runs (`make follow`) the
task is skipped.

## When it fails

The error in the failed task's log names the variable or the component; see `docs/airflow.md`.
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
    # Not paused: transactions wait for their decision.
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
