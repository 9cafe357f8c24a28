"""The table `performance_estimates`: performance estimated without labels, and the truth that came later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from psycopg2.extras import execute_values

from fraud_adapters.postgres.retraining_triggers import RunName
from fraud_core.drift.estimate import COMPARED, Coverage, Estimate

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class EstimatedWindow:
    """The window that a run's estimates are about; `rows` of it were decided by the version."""

    contract: str
    version: str
    start: datetime
    end: datetime
    rows: int
    trusted: bool


@dataclass(frozen=True, slots=True)
class OpenEstimate:
    """An estimate whose truth was not known yet."""

    identifier: int
    version: str
    metric: str
    start: datetime
    end: datetime


def store_estimates(
    cursor: Cursor, run: RunName, made_at: datetime, window: EstimatedWindow, estimates: Sequence[Estimate]
) -> None:
    """Store the estimates of a run; those of an earlier attempt of the run are replaced."""
    rows = [
        (
            *(made_at, run.dag, run.run_id, window.contract, window.version, window.start, window.end),
            *(one.metric, one.value, one.low, one.high, window.rows, window.trusted),
        )
        for one in estimates
    ]
    if rows:
        execute_values(cursor, _UPSERT, rows)


def open_estimates(cursor: Cursor, before: datetime, limit: int) -> list[OpenEstimate]:
    """Estimates that were not compared and whose window ended by then; the oldest first."""
    cursor.execute(
        "SELECT id, model_version, metric, window_from, window_to FROM performance_estimates"
        " WHERE compared_at IS NULL AND window_to <= %s ORDER BY window_to, id LIMIT %s",
        (before, limit),
    )
    return [OpenEstimate(*row) for row in cursor.fetchall()]


def latest_coverage(cursor: Cursor, version: str) -> dict[str, Coverage]:
    """By figure, how the version's latest estimates that were compared with the truth came off."""
    cursor.execute(_COVERAGE, (version, COMPARED))
    return {metric: Coverage(compared, covered) for metric, compared, covered in cursor.fetchall()}


def store_truth(cursor: Cursor, identifier: int, at: datetime, truth: float | None, labels: int) -> None:
    """Record what an estimate was compared with; None if its labels never became complete."""
    cursor.execute(
        "UPDATE performance_estimates SET compared_at = %s, truth = %s, labels = %s WHERE id = %s",
        (at, truth, labels, identifier),
    )


_COVERAGE: Final = """
    SELECT metric, count(*), count(*) FILTER (WHERE truth BETWEEN low AND high)
    FROM (
        SELECT metric, truth, low, high,
            row_number() OVER (PARTITION BY metric ORDER BY window_to DESC) AS age
        FROM performance_estimates WHERE model_version = %s AND truth IS NOT NULL
    ) AS compared
    WHERE age <= %s GROUP BY metric
"""
_UPSERT: Final = """
    INSERT INTO performance_estimates (made_at, dag_id, run_id, contract, model_version, window_from,
        window_to, metric, value, low, high, rows, trusted) VALUES %s
    ON CONFLICT (dag_id, run_id, metric) DO UPDATE SET made_at = excluded.made_at,
        model_version = excluded.model_version, window_from = excluded.window_from,
        window_to = excluded.window_to, value = excluded.value, low = excluded.low, high = excluded.high,
        rows = excluded.rows, trusted = excluded.trusted, compared_at = NULL, truth = NULL, labels = NULL
"""
