"""The table `feedback_metrics`: one row for each figure of each run of the feedback collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from psycopg2.extras import Json, execute_values

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class FeedbackFigure:
    """A figure; `part` is empty for the whole, else an origin of cases or a kind of decision."""

    metric: str
    value: float | None
    part: str = ""
    low: float | None = None
    high: float | None = None
    rows: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def store_figures(
    cursor: Cursor,
    contract: str,
    run_id: str,
    figures: Sequence[FeedbackFigure],
    window: tuple[datetime, datetime],
) -> None:
    """Store the figures of a run; those of an earlier attempt of the run are replaced."""
    values = [
        (
            *(contract, run_id, one.metric, one.part, one.value, one.low, one.high, one.rows),
            *(*window, Json(dict(one.details))),
        )
        for one in figures
    ]
    if values:
        execute_values(cursor, _STORE, values, page_size=len(values))


_STORE: Final = """
    INSERT INTO feedback_metrics (contract, run_id, metric, part, value, low, high, rows,
                                  window_from, window_to, details)
    VALUES %s ON CONFLICT (contract, run_id, metric, part) DO UPDATE SET
        measured_at = clock_timestamp(), value = excluded.value, low = excluded.low, high = excluded.high,
        rows = excluded.rows, window_from = excluded.window_from, window_to = excluded.window_to,
        details = excluded.details
"""
