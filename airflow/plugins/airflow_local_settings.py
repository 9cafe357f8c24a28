"""Airflow's cluster policy, which every process of Airflow imports: runs dated in the future are refused.

Airflow starts no task of a run before its logical date or `run_after`, but the run counts as active, so with
one active run per DAG it blocks the DAG's schedule. This hook covers every way of creating a run: REST API,
web UI, command line and tasks of other DAGs.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Final

if {"scheduler", "worker"} & set(sys.argv[1:3]):
    # These processes fork into tasks, which then need not import this module themselves.
    import airflow.providers.docker.operators.docker  # noqa: F401

__all__ = ["task_instance_mutation_hook"]

# The clock of another machine may be slightly fast.
_TOLERATED: Final = timedelta(seconds=10)


class DatedAhead(ValueError):
    """The run is dated in the future; one sentence. The REST API returns it with status 400."""


def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Airflow calls this for each task of a run that is being created.

    Raises:
        DatedAhead: the run's logical date or `run_after` is in the future.
    """
    del task_instance
    # Existing runs that were cleared are subject to `dagrun_timeout` instead.
    if dag_run is None or dag_run.state != "queued" or dag_run.clear_number:
        return
    for name in ("logical_date", "run_after"):
        date = getattr(dag_run, name)
        if date is not None and date - datetime.now(UTC) > _TOLERATED:
            raise DatedAhead(
                f"{name} is {date.isoformat()}, which is in the future: no task would start before it, and "
                "the DAG's other runs would wait. Leave it out, or set a date that has passed."
            )
