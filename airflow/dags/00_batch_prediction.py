"""# History scored again, when somebody asks for it

Scores an interval of the stored transactions, or a file of the object store, with any version of the model.
Nothing that it stores decides: predictions get the role *batch* and the id of the run. The form asks for what
is scored, by which model, and where the scores go; see `docs/batch.md`.

Each run leaves a report for audits under `runs/00_batch_prediction/<run id>/` in the object store: counts, a
histogram of the scores, the model's version, digests of input and output, who asked, and when.

## When it fails

The error in the failed task's log names the option, the file or the server. A task that runs again goes on
behind what is finished, with the version of the model that the run began with: nothing is scored twice.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG

from fraud_airflow import batch, checks
from fraud_airflow.defaults import dag_defaults

with DAG(
    "00_batch_prediction",
    description="Scores an interval or a file with any model version, for analysis and audits",
    schedule=None,
    doc_md=__doc__,
    params=batch.PARAMS,
    # Not paused: it runs only when somebody starts it, and then at once.
    **dag_defaults(
        ["batch"],
        paused=False,
        task_timeout=timedelta(hours=1),
        run_timeout=timedelta(hours=4),
        priority_weight=10,
    ),
):
    validate_batch_config = PythonOperator(
        task_id="validate_batch_config", python_callable=checks.require_secrets, op_args=["batch"]
    )
    run_batch_prediction = batch.scoring("run_batch_prediction")
    log_batch_completion = PythonOperator(
        task_id="log_batch_completion",
        python_callable=batch.completion,
        op_args=[run_batch_prediction.output],
    )
    validate_batch_config >> run_batch_prediction >> log_batch_completion
