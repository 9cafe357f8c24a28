"""What every DAG of the platform has in common, so that a DAG file only says what is its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from config.constants import POOL_REAL_TIME
from fraud_airflow.alerting.callbacks import on_failure, on_run_failure, on_success

OWNER: Final = "ml-platform"
# Only what comes next is scheduled. As early as can be, because a run that a person dates before it has no
# task and succeeds without doing anything.
START: Final = datetime(1970, 1, 1, tzinfo=UTC)
# No backfill: nothing here belongs to a past interval, and its runs would take the slots of those that count.
RUN_TYPES: Final = ("scheduled", "manual", "operator_triggered")


def dag_defaults(
    tags: Sequence[str], *, paused: bool, task_timeout: timedelta, run_timeout: timedelta, **own: Any
) -> dict[str, Any]:
    """Arguments of a DAG: one run at a time, nothing caught up, tasks tried again that tell when they fail.

    Args:
        paused: whether it waits, when Airflow first sees it, for a person to unpause it; a run of a paused
            DAG never begins, even if it is triggered. Each DAG decides, and says why.
        task_timeout: how long one try of a task may take.
        run_timeout: how long a run may take before it fails, so that the next one begins. It leaves time for
            all tries of any one task, so that a task that fails says why before its run is given up.
        own: goes into `default_args`.
    """
    return {
        "is_paused_upon_creation": paused,
        "start_date": START,
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
            "on_skipped_callback": on_success,  # a job that had nothing to do works
            **own,
        },
    }


def real_time(
    tags: Sequence[str], *, paused: bool, task_timeout: timedelta, run_timeout: timedelta
) -> dict[str, Any]:
    """Arguments of a sub-minute DAG: first in the queue, soon tried again."""
    return dag_defaults(
        ["real-time", *tags],
        paused=paused,
        task_timeout=task_timeout,
        run_timeout=run_timeout,
        retry_delay=timedelta(seconds=5),
        priority_weight=100,
        # Each task as important as the run it belongs to: the sum of what follows would favour first tasks.
        weight_rule="absolute",
        pool=POOL_REAL_TIME,
    )
