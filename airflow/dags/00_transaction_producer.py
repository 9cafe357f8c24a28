"""# Simulated transactions, every five seconds

Publishes 50 simulated transactions, about 5 % of them fraudulent, to the transactions topic, and the labels
that have come due. A retried task publishes the same transactions, because their ids are derived from the
run's id. In production the DAG is paused until a person unpauses it.

## When it fails

The error in the failed task's log names the variable or the component; see `docs/airflow.md`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from config import constants
from fraud_airflow import checks, completion
from fraud_airflow.defaults import real_time
from operators.docker_operator_custom import FraudDockerOperator

with DAG(
    "00_transaction_producer",
    description="50 simulated transactions to Kafka",
    schedule=timedelta(seconds=5),
    doc_md=__doc__,
    # Trying out the platform needs transactions. In production, simulated transactions must not be mixed with
    # real ones unless a person wants that.
    **real_time(
        ["producer"],
        paused=constants.ENV_VARS["APP_ENV"] == "production",
        task_timeout=timedelta(seconds=90),
        run_timeout=timedelta(minutes=5),
    ),
):
    validate_producer_config = PythonOperator(
        task_id="validate_producer_config", python_callable=checks.producer_config
    )
    generate_transactions = FraudDockerOperator(
        task_id="generate_transactions",
        service="producer",
        verb="generate",
        arguments=["--count", "50", "--run-id", "{{ dag.dag_id }}:{{ run_id }}"],
        single="producer",
    )
    log_producer_completion = PythonOperator(
        task_id="log_producer_completion",
        python_callable=completion.producer,
        op_args=[generate_transactions.output],
        trigger_rule="none_failed",
    )
    validate_producer_config >> generate_transactions >> log_producer_completion
