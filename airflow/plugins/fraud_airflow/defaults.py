"""What every DAG of the platform has in common, so that a DAG file only says what is its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from config.constants import POOL_REAL_TIME
from fraud_airflow.alerting.callbacks import on_failure, on_success

OWNER: Final = "ml-platform"
# Any day before the platform ran: only what comes next is scheduled.
START: Final = datetime(2025, 1, 1, tzinfo=UTC)


def dag_defaults(tags: Sequence[str], *, paused: bool, **own: Any) -> dict[str, Any]:
    """Arguments of a DAG: one run at a time, nothing caught up, tasks tried again that tell when they fail.

    Args:
        paused: whether it waits, when Airflow first sees it, for a person to unpause it; a run of a paused
            DAG never begins, even if it is triggered. Each DAG decides, and says why.
        own: goes into `default_args`.
    """
    return {
        "is_paused_upon_creation": paused,
        "start_date": START,
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["fraud", *tags],
        "default_args": {
            "owner": OWNER,
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "execution_timeout": timedelta(minutes=10),
            "on_failure_callback": on_failure,
            "on_success_callback": on_success,
            "on_skipped_callback": on_success,  # a job that had nothing to do works
            **own,
        },
    }


def real_time(tags: Sequence[str], *, paused: bool) -> dict[str, Any]:
    """Arguments of a sub-minute DAG: first in the queue, soon tried again, given up soon."""
    return dag_defaults(
        ["real-time", *tags],
        paused=paused,
        retry_delay=timedelta(seconds=5),
        execution_timeout=timedelta(seconds=90),
        priority_weight=100,
        # Each task as important as the run it belongs to: the sum of what follows would favour first tasks.
        weight_rule="absolute",
        pool=POOL_REAL_TIME,
    )
