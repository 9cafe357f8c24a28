"""The table `drift_metrics`: everything that drift monitoring measured, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from psycopg2.extras import Json, execute_values

from fraud_adapters.postgres.retraining_triggers import RunName

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class DriftMetric:
    """A row; the fields are the columns. `value` is None where it could not be measured."""

    contract: str
    model_version: str | None
    kind: Literal["data", "target", "concept", "verdict"]
    feature: str | None
    metric: str
    value: float | None
    threshold: float | None
    severity: str
    window_name: str | None
    window_from: datetime | None
    window_to: datetime | None
    rows: int | None
    labels: int | None
    details: Mapping[str, Any]


def store_drift_metrics(
    cursor: Cursor, run: RunName, detected_at: datetime, metrics: Sequence[DriftMetric]
) -> None:
    """Store the rows of a run; those of an earlier attempt of the run are replaced."""
    rows = [
        (
            run.dag,
            run.run_id,
            detected_at,
            *(getattr(metric, name) for name in _PLAIN),
            Json(dict(metric.details)),
        )
        for metric in metrics
    ]
    execute_values(cursor, _UPSERT, rows, page_size=500)


def count_drift_metrics(cursor: Cursor, run: RunName) -> int:
    """How many rows of a run are stored."""
    cursor.execute(
        "SELECT count(*) FROM drift_metrics WHERE dag_id = %s AND run_id = %s", (run.dag, run.run_id)
    )
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def drifting_since(
    cursor: Cursor, run: RunName, model_version: str, before: datetime, severe: float
) -> dict[str, datetime]:
    """For each feature whose PSI was above `severe` in the version's run before this one: since when.

    A feature counts in a run by its largest PSI; runs that could not judge it are passed over.
    """
    values = {"version": model_version, "before": before, "severe": severe, "dag": run.dag, "run": run.run_id}
    cursor.execute(_SINCE, values)
    return dict(cursor.fetchall())


_COLUMNS: Final = tuple(field.name for field in fields(DriftMetric))
_PLAIN: Final = _COLUMNS[:-1]  # all but the details
_UPSERT: Final = (
    f"INSERT INTO drift_metrics (dag_id, run_id, detected_at, {', '.join(_COLUMNS)}) VALUES %s"  # noqa: S608
    " ON CONFLICT (dag_id, run_id, metric, coalesce(feature, ''), coalesce(window_name, ''))"
    " WHERE dag_id IS NOT NULL DO UPDATE SET detected_at = excluded.detected_at, "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS)
)
_SINCE: Final = """
    WITH runs AS (
        SELECT feature, detected_at, max(value) > %(severe)s AS drifting FROM drift_metrics
        WHERE metric = 'psi' AND model_version = %(version)s AND detected_at < %(before)s
          AND detected_at > %(before)s - interval '90 days' AND value IS NOT NULL
          AND (dag_id, run_id) IS DISTINCT FROM (%(dag)s, %(run)s)
        GROUP BY feature, detected_at
    ), calm AS (
        SELECT feature, max(detected_at) AS until FROM runs WHERE NOT drifting GROUP BY feature
    )
    SELECT r.feature, min(r.detected_at) FROM runs r LEFT JOIN calm c ON c.feature = r.feature
    WHERE r.drifting AND r.detected_at > coalesce(c.until, '-infinity') GROUP BY r.feature
"""
