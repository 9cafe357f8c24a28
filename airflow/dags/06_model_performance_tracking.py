"""# Performance of the champion, every hour

Recall, precision, F1, FPR and FNR of the champion on mature labels, in count and in money, by amount and by
decision; the distribution and calibration of its scores; latency and throughput. The figures go to
`performance_metrics`, the report to the bucket of runs and to a run in MLflow that the version links to.
*critical*: recall or precision is below its floor, the model is not fit for service. *medium*: a figure is
lower than when the model was made, by more than `CONCEPT_DRIFT_THRESHOLD`. Both only if the whole interval
says so; with too few labels the verdict is *insufficient*, and nobody is alerted.

## When it fails

Only the figures of this hour are missing. The error in the failed task's log names the variable or the
component. See `docs/performance.md`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from fraud_airflow import monitoring
from fraud_airflow.defaults import dag_defaults, from_the_next

with DAG(
    "06_model_performance_tracking",
    description="The champion's figures on mature labels, latency and throughput",
    schedule=from_the_next("0 * * * *"),
    doc_md=__doc__,
    # Not paused: a model that has become bad costs money every hour.
    **dag_defaults(
        ["monitoring"],
        paused=False,
        start=None,
        task_timeout=timedelta(minutes=4),
        run_timeout=timedelta(minutes=15),
        priority_weight=25,
    ),
):
    monitoring.judged("run_performance_tracking", "performance", "send_performance_alert")
