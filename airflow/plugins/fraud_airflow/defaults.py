"""The defaults of every DAG, so that a DAG file contains only its own settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow.sdk import CronTriggerTimetable

from config.constants import POOL_REAL_TIME
from fraud_airflow.alerting.callbacks import on_failure, on_run_failure, on_success

OWNER: Final = "ml-platform"
# Without catch-up, only future runs are scheduled. The date is the earliest possible, because a manual run
# dated before it has no tasks and succeeds without doing anything.
START: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Once its time has come, the scheduler has this long to create a DAG's first run, or it is skipped.
FIRST_RUN_GRACE: Final = timedelta(minutes=1)
# Backfills are excluded: no task works on a past interval, and their runs would occupy the slots of current
# runs.
RUN_TYPES: Final = ("scheduled", "manual", "operator_triggered")


def from_the_next(cron: str) -> CronTriggerTimetable:
    """Runs at the times of a cron expression (UTC), the first one when its time comes.

    Airflow otherwise starts the run of the last time that passed as soon as it sees the DAG: a new
    installation would examine an hour in which it did not exist, while it starts. This has an effect only on
    a DAG without a start date (`dag_defaults(..., start=None)`).
    """
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=FIRST_RUN_GRACE)


def dag_defaults(
    tags: Sequence[str],
    *,
    paused: bool,
    task_timeout: timedelta,
    run_timeout: timedelta,
    start: datetime | None = START,
    **task_defaults: Any,
) -> dict[str, Any]:
    """The arguments of a DAG: one run at a time, no catch-up, retries, and alerts on failure.

    Args:
        paused: whether the DAG is paused when Airflow first sees it. A run of a paused DAG never starts, even
            if it is triggered. Each DAG decides, and gives the reason.
        task_timeout: the time limit of one try of a task. run_timeout: the time limit of a run; after it the
        next run can start. It must leave time for all tries
            of any one task, so that a failing task reports its reason before its run times out.
        start: the DAG's start date; None with `from_the_next`.
        task_defaults: further items of `default_args`.
    """
    return {
        "is_paused_upon_creation": paused,
        "start_date": start,
        "catchup": False,
        "max_active_runs": 1,
        "allowed_run_types": RUN_TYPES,
        "dagrun_timeout": run_timeout,
        "on_failure_callback": on_run_failure,
        "tags": ["fraud", *tags],
        "default_args": {
            "owner": OWNER,
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": task_timeout,
            "on_failure_callback": on_failure,
            "on_success_callback": on_success,
            "on_skipped_callback": on_success,  # a job without work is a success
            **task_defaults,
        },
    }


def real_time(
    tags: Sequence[str], *, paused: bool, task_timeout: timedelta, run_timeout: timedelta
) -> dict[str, Any]:
    """The arguments of a sub-minute DAG: high priority and fast retries."""
    return dag_defaults(
        ["real-time", *tags],
        paused=paused,
        task_timeout=task_timeout,
        run_timeout=run_timeout,
        retry_delay=timedelta(seconds=5),
        priority_weight=100,
        # All tasks of a run have equal priority; the default sums up downstream weights and favours first
        # tasks.
        weight_rule="absolute",
        pool=POOL_REAL_TIME,
    )
