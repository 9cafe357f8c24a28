"""DAGs with the platform's defaults, every two seconds, with limits a test can wait for.

One is for runs that are refused; each of the others stands still for a reason of its own, so that the tests
wait for all of them at the same time. Each has a pool of its own name.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from fraud_airflow.defaults import dag_defaults

for dag_id in ("halting", "halting_dated_ahead", "halting_no_slot", "halting_queued"):
    with DAG(
        dag_id,
        schedule=timedelta(seconds=2),
        **dag_defaults(
            ["test"],
            paused=True,
            task_timeout=timedelta(seconds=10),
            run_timeout=timedelta(seconds=10),
            retries=0,
            pool=dag_id,
        ),
    ):
        PythonOperator(task_id="work", python_callable=print)
