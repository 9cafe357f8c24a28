"""Removes what has been kept long enough, by the database's functions, a batch in each transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812

# What can be removed, and the function that does.
DEAD_LETTERS: Final = "dead_letters"
SESSIONS: Final = "sessions"
COLLECTED_REPORTS: Final = "collected_reports"
_STATEMENTS: Final = {
    DEAD_LETTERS: "SELECT forget_dead_letters(%s, %s)",
    SESSIONS: "SELECT forget_sessions(%s, %s)",
    COLLECTED_REPORTS: "SELECT forget_feedback_reports(%s, %s)",
}


def forget(connection: Connection, what: str, before: datetime, batch: int) -> int:
    """Remove all of a kind that is older than `before`, at most `batch` rows a database transaction.

    Returns:
        How many rows were removed.
    """
    removed = 0
    while True:
        with connection, connection.cursor() as cursor:
            cursor.execute(_STATEMENTS[what], (before, batch))
            row = cursor.fetchone()
        done = int(row[0]) if row else 0
        removed += done
        if done < batch:
            return removed
