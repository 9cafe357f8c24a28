"""The table `alerts`, which Airflow's watch writes by a function: what was raised, and whether it is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Alert:
    """An incident."""

    alert_id: int
    raised_at: datetime
    source: str
    severity: str
    title: str
    occurrences: int
    sent_at: datetime | None
    resolved_at: datetime | None
    details: Any


def list_alerts(
    cursor: Cursor,
    limit: int,
    *,
    severity: str | None = None,
    open_only: bool = False,
    before: tuple[datetime, int] | None = None,
) -> list[Alert]:
    """Alerts after a position, the newest first."""
    conditions = ["true"]
    if severity is not None:
        conditions.append("severity = %(severity)s")
    if open_only:
        conditions.append("resolved_at IS NULL")
    if before is not None:
        conditions.append("(raised_at, id) < (%(raised_at)s, %(id)s)")
    cursor.execute(
        "SELECT id, raised_at, source, severity, title, occurrences, sent_at, resolved_at, details"  # noqa: S608
        f" FROM alerts WHERE {' AND '.join(conditions)} ORDER BY raised_at DESC, id DESC LIMIT %(limit)s",
        {
            "severity": severity,
            "limit": limit,
            "raised_at": before[0] if before else None,
            "id": before[1] if before else None,
        },
    )
    return [Alert(*row) for row in cursor.fetchall()]


def open_alerts(cursor: Cursor) -> dict[str, int]:
    """How many alerts are not over, by severity."""
    cursor.execute("SELECT severity, count(*) FROM alerts WHERE resolved_at IS NULL GROUP BY severity")
    return dict(cursor.fetchall())
