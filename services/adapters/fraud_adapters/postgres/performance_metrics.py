"""The table `performance_metrics`: one row for each figure of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg2.extras import Json, execute_values

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A figure; `part` is empty for the whole, else an amount band, a decision or an engine."""

    metric: str
    value: float | None
    part: str = ""
    low: float | None = None
    high: float | None = None
    rows: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """A figure at a time, with its interval."""

    measured_at: datetime
    metric: str
    value: float
    low: float | None
    high: float | None


def store_metrics(
    cursor: Cursor,
    contract: str,
    run_id: str,
    version: str,
    rows: Sequence[MetricRow],
    *,
    window: tuple[datetime, datetime],
    labels: int,
) -> None:
    """Store the figures of a run; those of an earlier attempt of the run are replaced."""
    values = [
        (
            *(contract, run_id, version, row.metric, row.part, row.value, row.low, row.high),
            *(*window, row.rows, labels, Json(dict(row.details))),
        )
        for row in rows
    ]
    if values:
        execute_values(cursor, _STORE, values, page_size=len(values))


def read_trend(
    cursor: Cursor, contract: str, version: str, metrics: Sequence[str], since: datetime
) -> list[TrendPoint]:
    """The stored figures of a version since a time, oldest first."""
    cursor.execute(
        "SELECT measured_at, metric, value, low, high FROM performance_metrics"
        " WHERE metric = ANY (%s) AND measured_at >= %s AND contract = %s AND model_version = %s"
        " AND part = '' AND value IS NOT NULL ORDER BY measured_at, metric",
        (list(metrics), since, contract, version),
    )
    return [TrendPoint(*row) for row in cursor.fetchall()]


_STORE: Final = """
    INSERT INTO performance_metrics (contract, run_id, model_version, metric, part, value, low, high,
                                     window_from, window_to, rows, labels, details)
    VALUES %s ON CONFLICT (contract, run_id, model_version, metric, part) DO UPDATE SET
        measured_at = clock_timestamp(), value = excluded.value, low = excluded.low, high = excluded.high,
        window_from = excluded.window_from, window_to = excluded.window_to, rows = excluded.rows,
        labels = excluded.labels, details = excluded.details
"""
