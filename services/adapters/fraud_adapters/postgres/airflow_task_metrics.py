"""The table `airflow_task_metrics`: each try of a task of a DAG, with its state and duration."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from fraud_core.quality.pipeline import RunDurations, TaskOutcomes

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# Over the days that are compared, Airflow's own sub-minute DAGs have tens of thousands of runs.
EARLIER: Final = timedelta(days=7)


def outcomes(cursor: Cursor, start: datetime, end: datetime) -> list[TaskOutcomes]:
    """The tries that ended in an interval, by DAG."""
    cursor.execute(_OUTCOMES, {"start": start, "end": end})
    return [TaskOutcomes(*row) for row in cursor.fetchall()]


def durations(cursor: Cursor, start: datetime, end: datetime) -> list[RunDurations]:
    """How long the runs of an interval took, and those of the days before that executed the same tasks.

    A run that skips its training is not compared with one that trains. A run that has not ended counts with
    its duration so far.
    """
    cursor.execute(_DURATIONS, {"start": start, "end": end, "earliest": start - EARLIER})
    return [RunDurations(*row) for row in cursor.fetchall()]


_OUTCOMES: Final = """
    SELECT dag_id, count(*), count(*) FILTER (WHERE state IN ('failed', 'up_for_retry'))
    FROM airflow_task_metrics WHERE ended_at >= %(start)s AND ended_at < %(end)s GROUP BY 1 ORDER BY 1
"""
_DURATIONS: Final = """
    WITH runs AS (
        SELECT dag_id, tasks, ended_at, extract(epoch FROM ended_at - started_at)::float8 AS seconds
        FROM (
            SELECT dag_id, run_id, min(started_at) AS started_at, string_agg(DISTINCT task_id, ',') AS tasks,
                   CASE WHEN bool_or(ended_at IS NULL) THEN %(end)s ELSE max(ended_at) END AS ended_at
            FROM airflow_task_metrics
            WHERE (ended_at >= %(earliest)s OR ended_at IS NULL) AND started_at < %(end)s
              AND state <> 'skipped'
            GROUP BY 1, 2
        ) whole
    )
    SELECT dag_id, count(*) FILTER (WHERE ended_at >= %(start)s),
           max(seconds) FILTER (WHERE ended_at >= %(start)s),
           count(*) FILTER (WHERE ended_at < %(start)s),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FILTER (WHERE ended_at < %(start)s)
    FROM runs GROUP BY dag_id, tasks HAVING count(*) FILTER (WHERE ended_at >= %(start)s) > 0 ORDER BY 1
"""
