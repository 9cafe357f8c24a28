"""What people and banks say of decisions: coverage, agreement, cases, and the reviewed random sample.

Only the SQL function `labels_as_of` decides which labels count and are mature.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.examples import read_whole_tables
from fraud_core.feedback.estimates import Reviewed


@dataclass(frozen=True, slots=True)
class KnownDecisions:
    """The deciding predictions of a window, and how many of them are known.

    Attributes:
        flagged: reviewed or blocked; approved: the rest.
        flagged_reported, approved_reported: those about which somebody has reported.
        flagged_known: flagged with a mature label, also by silence; flagged_frauds: the frauds among them.
        reported_frauds: approved, and found to be fraud without the random sample.
        sampled: approved and drawn for the random sample.
    """

    flagged: int
    approved: int
    flagged_reported: int
    approved_reported: int
    flagged_known: int
    flagged_frauds: int
    reported_frauds: int
    sampled: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """Transactions on which two or more people have reported, and those on which all of them agree."""

    transactions: int
    agreed: int


@dataclass(frozen=True, slots=True)
class Disputes:
    """The disputes that nobody has ended, and since when the oldest lasts."""

    open: int
    oldest: datetime | None


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


@dataclass(frozen=True, slots=True)
class Window:
    """Decisions of a contract from `start` on and before `end`, with the labels known at `end`."""

    contract: str
    start: datetime
    end: datetime

    def values(self) -> dict[str, Any]:
        return {"contract": self.contract, "start": self.start, "end": self.end}


def known_decisions(connection: Connection, window: Window) -> KnownDecisions:
    """What is known of all decisions of the window."""
    with connection, connection.cursor() as cursor:
        read_whole_tables(cursor)
        interruptible(connection, lambda: cursor.execute(_KNOWN, window.values()))
        row = cursor.fetchone()
    assert row is not None
    return KnownDecisions(*row)


def reviewed_sample(connection: Connection, window: Window) -> list[Reviewed]:
    """The sampled transactions of the window whose review is over and undisputed."""
    with connection, connection.cursor() as cursor:
        interruptible(connection, lambda: cursor.execute(_SAMPLE, window.values()))
        return [Reviewed(share, missed) for share, missed in cursor.fetchall()]


def agreement(connection: Connection, window: Window) -> Agreement:
    """How often people agree; the same person twice is one of them, with the latest report."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_AGREEMENT, window.values())
        row = cursor.fetchone()
    assert row is not None
    return Agreement(*row)


def open_disputes(connection: Connection) -> Disputes:
    """What is disputed now."""
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*), min(opened_at) FROM label_disputes"
            " WHERE resolved_at IS NULL AND opened_at <= clock_timestamp()"
        )
        row = cursor.fetchone()
    assert row is not None
    return Disputes(*row)


def queues(connection: Connection, now: datetime) -> list[Queue]:
    """What is not closed, by origin."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_QUEUES, {"now": now})
        return [Queue(*row) for row in cursor.fetchall()]


def decided_cases(connection: Connection, window: Window) -> list[Decided]:
    """What people have decided in the window, by origin."""
    with connection, connection.cursor() as cursor:
        cursor.execute(_DECIDED_CASES, window.values())
        return [Decided(*row) for row in cursor.fetchall()]


# Found without the sample: somebody who was not asked to review the transaction has reported the fraud. What
# an analyst reports once a sampled transaction is a case, in the web app or by the API, is the review.
_FOUND_ANYWAY: Final = """
    EXISTS (SELECT FROM labels o
            WHERE o.transaction_id = p.transaction_id AND o.label = 1 AND o.reported_at <= %(end)s
              AND o.source IN ('analyst', 'chargeback', 'simulator') AND o.matures_at <= %(end)s
              AND (o.source <> 'analyst' OR c.sampling_share IS NULL OR o.reported_at < c.opened_at))
"""
_DECIDED: Final = """
    p.deciding AND p.prediction_time >= %(start)s AND p.prediction_time < %(end)s
    AND EXISTS (SELECT FROM transactions x
                WHERE x.transaction_id = p.transaction_id AND x.contract = %(contract)s)
"""
_KNOWN: Final = f"""
    WITH decided AS MATERIALIZED (
        SELECT p.decision <> 'approve' AS flagged, l.source <> 'implied' AS reported,
               l.mature AND l.label IS NOT NULL AS known, l.mature AND l.label = 1 AS fraud,
               CASE WHEN l.mature AND l.label = 1 THEN {_FOUND_ANYWAY} ELSE false END AS found_anyway,
               c.sampling_share IS NOT NULL AS sampled
        FROM predictions p
        LEFT JOIN (SELECT * FROM labels_as_of(%(end)s)) l ON l.transaction_id = p.transaction_id
        LEFT JOIN cases c ON c.transaction_id = p.transaction_id
        WHERE {_DECIDED}
    )
    SELECT count(*) FILTER (WHERE flagged), count(*) FILTER (WHERE NOT flagged),
           count(*) FILTER (WHERE flagged AND reported), count(*) FILTER (WHERE NOT flagged AND reported),
           count(*) FILTER (WHERE flagged AND known), count(*) FILTER (WHERE flagged AND fraud),
           count(*) FILTER (WHERE NOT flagged AND fraud AND found_anyway),
           count(*) FILTER (WHERE NOT flagged AND sampled)
    FROM decided
"""  # noqa: S608 - put together from the constants above
# A case keeps its chance when it becomes a dispute.
_SAMPLE: Final = f"""
    SELECT c.sampling_share, l.label = 1 AND NOT {_FOUND_ANYWAY}
    FROM cases c
    JOIN predictions p ON p.transaction_id = c.transaction_id AND p.decision = 'approve' AND {_DECIDED}
    CROSS JOIN LATERAL (SELECT a.label FROM labels_as_of(%(end)s) a
                        WHERE a.transaction_id = c.transaction_id AND a.mature OFFSET 0) l
    WHERE c.sampling_share IS NOT NULL
      AND EXISTS (SELECT FROM labels r WHERE r.transaction_id = c.transaction_id AND r.reported_at <= %(end)s
                  AND r.source IN ('analyst', 'random_audit', 'adjudication'))
    ORDER BY c.case_id
"""  # noqa: S608
_AGREEMENT: Final = """
    SELECT count(*), count(*) FILTER (WHERE agreed) FROM (
        SELECT min(label) = max(label) AS agreed FROM (
            SELECT DISTINCT ON (transaction_id, reported_by) transaction_id, label FROM labels
            WHERE source IN ('analyst', 'random_audit') AND reported_by IS NOT NULL
              AND reported_at >= %(start)s AND reported_at < %(end)s
            ORDER BY transaction_id, reported_by, reported_at DESC, label_id DESC) voices
        GROUP BY transaction_id HAVING count(*) > 1) judged
"""
_QUEUES: Final = """
    SELECT origin, count(*) FILTER (WHERE state = 'open'), count(*) FILTER (WHERE state = 'assigned'),
           count(*) FILTER (WHERE due_at < %(now)s), greatest(%(now)s - min(opened_at), interval '0')
    FROM cases WHERE state <> 'closed' GROUP BY origin ORDER BY origin
"""
# A case that was opened again counts from when it was opened first.
_DECIDED_CASES: Final = """
    SELECT origin, count(*), count(*) FILTER (WHERE decision = 1),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY closed_at - opened_at),
           percentile_cont(0.9) WITHIN GROUP (ORDER BY closed_at - opened_at)
    FROM cases WHERE state = 'closed' AND decision IS NOT NULL AND decided_by IS NOT NULL
      AND closed_at >= %(start)s AND closed_at < %(end)s
    GROUP BY origin ORDER BY origin
"""
