"""The tables `feedback_reports` and `feedback_runs`: which run has collected which reports.

Each report is collected by one run. What a run has collected does not change when it is repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


def waiting(cursor: Cursor) -> int:
    """How many reports no run has collected."""
    cursor.execute("SELECT count(*) FROM feedback_reports WHERE run_id IS NULL")
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def collect(cursor: Cursor, run_id: str) -> dict[str, Any]:
    """Assign all waiting reports to the run, unless it has collected before, and say what it has collected.

    Two processes with the same run pass one after the other; both get the same answer.

    Returns:
        since (of the run before, or None), reports, transactions, people, and sources: by source the number
        of reports and of frauds among them.
    """
    # Whoever comes second waits here until the first has committed.
    cursor.execute(
        "INSERT INTO feedback_runs (run_id, collected) VALUES (%s, '{}') ON CONFLICT DO NOTHING", (run_id,)
    )
    if cursor.rowcount:
        cursor.execute("UPDATE feedback_reports SET run_id = %s WHERE run_id IS NULL", (run_id,))
        cursor.execute(_SUMMARISE, {"run": run_id})
    cursor.execute("SELECT collected FROM feedback_runs WHERE run_id = %s", (run_id,))
    row = cursor.fetchone()
    assert row is not None
    collected: dict[str, Any] = row[0]
    return collected


def is_collected(cursor: Cursor, run_id: str) -> bool:
    """Whether the run has collected."""
    cursor.execute("SELECT 1 FROM feedback_runs WHERE run_id = %s", (run_id,))
    return cursor.fetchone() is not None


def reported_transactions(cursor: Cursor, run_id: str) -> list[str]:
    """The transactions about which the run has collected reports, in order."""
    cursor.execute(
        "SELECT DISTINCT transaction_id FROM feedback_reports WHERE run_id = %s ORDER BY 1", (run_id,)
    )
    return [row[0] for row in cursor.fetchall()]


def note_applied(cursor: Cursor, run_id: str, classes_changed: int, *, finished: bool) -> int:
    """Add to the classes that the run has changed; returns how many those are by now."""
    cursor.execute(
        "UPDATE feedback_runs SET classes_changed = classes_changed + %s,"
        " applied_at = CASE WHEN %s THEN coalesce(applied_at, clock_timestamp()) ELSE applied_at END"
        " WHERE run_id = %s RETURNING classes_changed",
        (classes_changed, finished, run_id),
    )
    row = cursor.fetchone()
    return int(row[0]) if row else 0


_SUMMARISE: Final = """
    WITH reports AS MATERIALIZED (
        SELECT l.source, l.label, l.transaction_id, l.reported_by
        FROM feedback_reports f JOIN labels l ON l.label_id = f.label_id WHERE f.run_id = %(run)s
    ), by_source AS (
        SELECT source, count(*) AS reports, sum(label) AS frauds FROM reports GROUP BY source
    )
    UPDATE feedback_runs SET collected = jsonb_build_object(
        'since', (SELECT max(r.collected_at) FROM feedback_runs r WHERE r.run_id <> %(run)s),
        'reports', (SELECT count(*) FROM reports),
        'transactions', (SELECT count(DISTINCT transaction_id) FROM reports),
        'people', (SELECT count(DISTINCT reported_by) FROM reports),
        'sources', (SELECT coalesce(jsonb_object_agg(
                        source, jsonb_build_object('reports', reports, 'frauds', frauds)), '{}')
                    FROM by_source))
    WHERE run_id = %(run)s
"""
