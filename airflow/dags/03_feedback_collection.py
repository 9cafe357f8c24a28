"""# What people and banks say of decisions, every night at three

`fetch_pending_cases` opens the cases that are due (flagged decisions, the random sample, labels that
contradict each other), returns those that were taken and left, and counts what waits.
`collect_investigator_feedback` collects what analysts and banks have reported since the last run, each report
once. `update_ground_truth_labels` brings the classes of transactions up to date. `store_feedback_metrics`
measures how much is known, how well analysts agree, how long a label takes, and the recall on all traffic,
which the random sample estimates; the figures go to `feedback_metrics`. `replay_sample` makes a sample of
stored decisions again, from their recorded model and features: each must get the identical score.

Then the day's housekeeping: `housekeeping` removes from the database, `remove_run_files` from the object
store, what `retention` in `config.yaml` no longer keeps. See `docs/feedback.md`.

## When it fails

Nothing is lost: labels count from the moment they are stored, and the next run collects what this one has
not. Clear the failed task to go on from there; a step that is repeated says the same again. The error in its
log names the variable or the component.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from fraud_airflow import feedback
from fraud_airflow.defaults import dag_defaults, from_the_next

with DAG(
    "03_feedback_collection",
    description="Collects analysts' and banks' reports, updates the truth, measures it, and cleans up",
    schedule=from_the_next("0 3 * * *"),
    doc_md=__doc__,
    # Not paused: contradicting labels wait for a lead only once they are a case.
    **dag_defaults(
        ["data", "feedback"],
        paused=False,
        start=None,
        task_timeout=timedelta(minutes=9),
        run_timeout=timedelta(minutes=20),
        retries=1,
        priority_weight=20,
    ),
):
    (
        feedback.step("fetch_pending_cases", "pending")
        >> feedback.step("collect_investigator_feedback", "collect")
        >> feedback.step("update_ground_truth_labels", "apply")
        >> feedback.step("store_feedback_metrics", "metrics")
        >> feedback.replay_sample("replay_sample")
        >> feedback.step("housekeeping", "housekeeping")
        >> feedback.remove_run_files("remove_run_files")
    )
