"""Airflow's cluster policy, which every process of Airflow imports: a run dated ahead is refused.

Airflow starts no task of a run before its logical date or `run_after`, and meanwhile the run counts as
active: with one active run a DAG it halts the DAG's schedule. This is the one place that every way of making
a run passes: REST API, web UI, command line and a task of another DAG.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any, Final

if {"scheduler", "worker"} & set(sys.argv[1:3]):
    # Whose processes fork into tasks: what each task of ours would import is there already.
    import airflow.providers.docker.operators.docker  # noqa: F401

__all__ = ["task_instance_mutation_hook"]

# A clock of another machine may be a little fast.
_TOLERATED: Final = timedelta(seconds=10)


class DatedAhead(ValueError):
    """A run would wait for its date; one sentence. The REST API answers 400 with it."""


def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Airflow calls it for each task of a run that is being made.

    Raises:
        DatedAhead: the run's logical date or `run_after` is in the future.
    """
    del task_instance
    # One that is there already, and cleared, is for `dagrun_timeout`.
    if dag_run is None or dag_run.state != "queued" or dag_run.clear_number:
        return
    for name in ("logical_date", "run_after"):
        date = getattr(dag_run, name)
        if date is not None and date - datetime.now(UTC) > _TOLERATED:
            raise DatedAhead(
                f"{name} is {date.isoformat()}, which is in the future: no task would start before it, and "
                "the DAG's other runs would wait. Leave it out, or set a date that has passed."
            )
