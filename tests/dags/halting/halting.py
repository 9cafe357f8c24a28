"""The DAG `halting`: the platform's defaults, every two seconds, with limits a test can wait for."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from fraud_airflow.defaults import dag_defaults

with DAG(
    "halting",
    schedule=timedelta(seconds=2),
    **dag_defaults(
        ["test"],
        paused=True,
        task_timeout=timedelta(seconds=10),
        run_timeout=timedelta(seconds=10),
        retries=0,
        pool="halting",
    ),
):
    PythonOperator(task_id="work", python_callable=print)
