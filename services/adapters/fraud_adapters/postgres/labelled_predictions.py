"""Deciding predictions of one version against mature labels, by hour, and by window.

Only the SQL function `labels_as_of` decides which labels are mature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.examples import read_whole_tables
from fraud_core.metrics import Confusion


@dataclass(frozen=True, slots=True)
class LabelledHour:
    """The predictions of one hour, and the outcomes of those whose label is mature."""

    start: datetime
    rows: int
    counts: Confusion


@dataclass(frozen=True, slots=True)
class LabelledWindow:
    """The predictions of a window, and the outcomes of those whose label is mature."""

    start: datetime
    end: datetime
    rows: int
    counts: Confusion


def labelled_hours(
    connection: Connection, version: str, start: datetime, now: datetime
) -> list[LabelledHour]:
    """By hour of the prediction, the newest first; hours without predictions are left out."""
    values = {"now": now, "version": version, "start": start, "end": now}
    return [
        LabelledHour(hour, rows, Confusion(*counts))
        for hour, rows, *counts in _rows(connection, _BY_HOUR, values)
    ]


def labelled_windows(
    connection: Connection, version: str, windows: Sequence[tuple[datetime, datetime]], now: datetime
) -> list[LabelledWindow]:
    """The outcomes of each of these windows; a window without predictions is left out."""
    if not windows:
        return []
    values = {
        "now": now,
        "version": version,
        "start": min(start for start, _ in windows),
        "end": max(end for _, end in windows),
        "starts": [start for start, _ in windows],
        "ends": [end for _, end in windows],
    }
    return [
        LabelledWindow(start, end, rows, Confusion(*counts))
        for start, end, rows, *counts in _rows(connection, _BY_WINDOW, values)
    ]


def _rows(connection: Connection, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection, connection.cursor() as cursor:
        read_whole_tables(cursor)
        interruptible(connection, lambda: cursor.execute(statement, values))
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


_JUDGED: Final = """
    WITH judged AS MATERIALIZED (
        SELECT p.prediction_time, p.is_fraud_predicted AS flagged, l.label
        FROM predictions p
        LEFT JOIN (SELECT transaction_id AS labelled, label FROM labels_as_of(%(now)s) WHERE mature) l
            ON l.labelled = p.transaction_id
        WHERE p.deciding AND p.model_version = %(version)s
          AND p.prediction_time >= %(start)s AND p.prediction_time < %(end)s
    )
"""
_COUNTS: Final = """
    count(*),
    count(*) FILTER (WHERE flagged AND label = 1), count(*) FILTER (WHERE flagged AND label = 0),
    count(*) FILTER (WHERE NOT flagged AND label = 0), count(*) FILTER (WHERE NOT flagged AND label = 1)
"""
_BY_HOUR: Final = (
    f"{_JUDGED} SELECT date_trunc('hour', prediction_time, 'UTC') AS hour, {_COUNTS}"  # noqa: S608
    " FROM judged GROUP BY hour ORDER BY hour DESC"
)
_BY_WINDOW: Final = (
    f"{_JUDGED} SELECT w.start, w.end, {_COUNTS}"  # noqa: S608
    ' FROM unnest(%(starts)s::timestamptz[], %(ends)s::timestamptz[]) AS w (start, "end")'
    " JOIN judged ON prediction_time >= w.start AND prediction_time < w.end GROUP BY w.start, w.end"
)
