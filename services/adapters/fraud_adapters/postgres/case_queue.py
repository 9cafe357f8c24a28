"""Opens, closes and returns cases by the database's functions, and looks at what waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from config.audit import Opening

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Queue:
    """The cases of one origin that are not closed; `breached` are past their time."""

    origin: str
    open: int
    assigned: int
    breached: int
    oldest: timedelta


@dataclass(frozen=True, slots=True)
class Decided:
    """The cases of one origin that people have decided: how many are frauds, and how long they took."""

    origin: str
    cases: int
    frauds: int
    median: timedelta
    ninth_decile: timedelta


def open_decided(cursor: Cursor, opening: Opening) -> int:
    """Open the cases of flagged decisions and of the random sample, at most a batch of either."""
    due = opening.due
    cursor.execute(
        "SELECT open_cases(%s, %s, %s, %s, %s, %s, %s)",
        (
            *(due.block, due.review, due.sampled, opening.sampling_share),
            *(opening.max_age, opening.settle, opening.batch),
        ),
    )
    return _count(cursor)


def searched_to(cursor: Cursor) -> int:
    """How far predictions were searched for cases."""
    cursor.execute("SELECT done_to FROM case_scan")
    return _count(cursor)


def open_disputed(cursor: Cursor, due: timedelta, most: int) -> int:
    """Open the cases of disputes, or open again those that were closed; gives how many."""
    cursor.execute("SELECT open_disputed_cases(%s, %s)", (due, most))
    return _count(cursor)


def close_settled(cursor: Cursor, most: int) -> int:
    """Close the cases of disputes that are over; gives how many."""
    cursor.execute("SELECT close_settled_cases(%s)", (most,))
    return _count(cursor)


def return_left(cursor: Cursor, most: int) -> int:
    """Return cases that were taken and left until their lock ran out; gives how many."""
    cursor.execute("SELECT return_left_cases(%s)", (most,))
    return _count(cursor)


def queues(cursor: Cursor, now: datetime) -> list[Queue]:
    """What is not closed, by origin."""
    cursor.execute(_QUEUES, {"now": now})
    return [Queue(*row) for row in cursor.fetchall()]


def decided(cursor: Cursor, start: datetime, end: datetime) -> list[Decided]:
    """What people have decided in a window, by origin."""
    cursor.execute(_DECIDED, (start, end))
    return [Decided(*row) for row in cursor.fetchall()]


_QUEUES: Final = """
    SELECT origin, count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'assigned'),
           count(*) FILTER (WHERE due_at < %(now)s), greatest(%(now)s - min(opened_at), interval '0')
    FROM cases WHERE state <> 'closed' GROUP BY origin ORDER BY origin
"""
# A case that was opened again counts from when it was opened first.
_DECIDED: Final = """
    SELECT origin, count(*), count(*) FILTER (WHERE decision = 1),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY closed_at - opened_at),
           percentile_cont(0.9) WITHIN GROUP (ORDER BY closed_at - opened_at)
    FROM cases WHERE state = 'closed' AND decision IS NOT NULL AND decided_by IS NOT NULL
      AND closed_at >= %s AND closed_at < %s
    GROUP BY origin ORDER BY origin
"""


def _count(cursor: Cursor) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0
