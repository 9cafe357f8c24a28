"""# Quality of the data, every hour

Checks what arrived in the last hour: schema, missing values, outliers, unusual rows, distribution, volume,
freshness, completeness (what was produced is stored and decided), duplicates, conflicting ids, lag, dead
letters, clocks, and the platform's own parts. Every outcome is stored in `quality_reports` with its numbers
and a sentence. A failed check alerts: *high* for schema, freshness, completeness and conflicting ids, else
*medium*. *warned* is only shown; a check that is *insufficient* for a day alerts, because nobody knows then.

## When it fails

Only the checks stop. A source that does not answer does not fail the run: its checks have no verdict. The
error in the failed task's log names the variable or the component. See `docs/quality.md`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from fraud_airflow import monitoring
from fraud_airflow.defaults import dag_defaults, from_the_next

with DAG(
    "04_data_quality",
    description="Checks the data that arrived in the last hour, and the platform's parts",
    schedule=from_the_next("0 * * * *"),
    doc_md=__doc__,
    # Not paused: bad data that nobody notices is decided upon.
    **dag_defaults(
        ["monitoring", "quality"],
        paused=False,
        start=None,
        task_timeout=timedelta(minutes=2),
        run_timeout=timedelta(minutes=15),
        priority_weight=25,
    ),
):
    monitoring.judged("run_quality_checks", "quality", "send_quality_alert")
