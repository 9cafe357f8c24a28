"""# Drift of the champion's inputs, target and performance, every hour

Compares what was scored in the last hour and the last day with the reference profile of the champion, and its
decisions with mature labels. *Critical* and *high* open a row in `retraining_triggers`, start
`01_training_pipeline` and alert; *medium* alerts; *none* and *insufficient* do nothing. After a retraining
that drift triggered a cooldown applies, and after a model that failed its gate new labels are needed.

Figures and verdict are stored in `drift_metrics` with the trigger; `save_drift_metrics`, which runs whatever
became of the alert, adds a report for people and the figures in MLflow.

## When it fails

Only the monitoring stops. The failed task's log names the variable or component; see `docs/drift.md`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.python import BranchPythonOperator, PythonOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

from config.constants import DAG_DRIFT, DAG_TRAINING
from fraud_airflow import drift
from fraud_airflow.defaults import dag_defaults, from_the_next
from operators.alert_operator import FraudDetectionAlertOperator

with DAG(
    DAG_DRIFT,
    description="Drift of the champion's inputs, target and performance",
    schedule=from_the_next("0 * * * *"),
    doc_md=__doc__,
    # Not paused: a champion that nobody watches may lose money for weeks.
    **dag_defaults(
        ["monitoring", "critical"],
        paused=False,
        start=None,
        task_timeout=timedelta(seconds=90),
        run_timeout=timedelta(minutes=15),
        priority_weight=30,
    ),
):
    run_drift_monitoring = drift.step("run_drift_monitoring", "drift")
    parse_drift_results = PythonOperator(
        task_id="parse_drift_results", python_callable=drift.parse, op_args=[run_drift_monitoring.output]
    )
    decide_next_step = BranchPythonOperator(
        task_id="decide_next_step", python_callable=drift.branch, op_args=[parse_drift_results.output]
    )
    trigger_retraining_dag = TriggerDagRunOperator(
        task_id="trigger_retraining_dag", trigger_dag_id=DAG_TRAINING, **drift.TRIGGERED_RUN
    )
    send_drift_alert = FraudDetectionAlertOperator(task_id="send_drift_alert", **drift.ALERT)
    no_action = EmptyOperator(task_id="no_action")
    saved = drift.step("save_drift_metrics", "save-drift").as_teardown(on_failure_fail_dagrun=True)
    run_drift_monitoring >> parse_drift_results >> decide_next_step
    decide_next_step >> [trigger_retraining_dag, send_drift_alert, no_action] >> saved
