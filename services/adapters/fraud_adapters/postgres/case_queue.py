"""Opens, closes and returns cases, by the database's functions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from config.audit import Opening

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


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


def _count(cursor: Cursor) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0
