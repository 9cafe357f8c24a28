"""The tables `simulated_labels` and `simulations`: the truth about simulated transactions.

The simulator stores here the labels that a bank would learn later, and the best figures that any model can
reach, which the trainer reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class StoredOptimum:
    """The best any model can do on simulated data, as the simulator computed it."""

    population: str
    figures: Mapping[str, float]


# --- The truth about transactions -----------------------------------------------------------------
def store_truth(
    cur: Cursor,
    ids: Sequence[str],
    labels: Sequence[int],
    due: Sequence[datetime],
    sent: Sequence[datetime | None] | None = None,
) -> int:
    """Store the truth about n transactions; existing rows stay unchanged. Returns how many were new."""
    if not ids:
        return 0
    cur.execute(_INSERT_TRUTH, (list(ids), list(labels), list(due), list(sent or [None] * len(ids))))
    return int(cur.rowcount)


def lock_run(cur: Cursor, run: str) -> None:
    """Serialise processes with the same run id until the transaction ends."""
    cur.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"fraud_producer/{run}",))


def due_of(cur: Cursor, transaction_id: str) -> datetime | None:
    """When the truth about a transaction is due, or None if none is stored."""
    cur.execute("SELECT due_at FROM simulated_labels WHERE transaction_id = %s", (transaction_id,))
    row = cur.fetchone()
    return row[0] if row else None


def due_labels(cur: Cursor, now: datetime, limit: int) -> list[tuple[str, int, datetime]]:
    """Labels that are due and were not sent, the oldest first, locked until the transaction ends."""
    cur.execute(_DUE, (now, limit))
    rows: list[tuple[str, int, datetime]] = cur.fetchall()
    return rows


def mark_sent(cur: Cursor, ids: Sequence[str], now: datetime) -> None:
    """Mark the labels of these transactions as sent."""
    cur.execute(
        "UPDATE simulated_labels SET sent_at = %s WHERE transaction_id = ANY (%s::varchar[])",
        (now, list(ids)),
    )


# --- Transactions among which history is simulated ------------------------------------------------
def count_stored(cur: Cursor, ids: Sequence[str]) -> int:
    """How many of these transactions are stored."""
    cur.execute("SELECT count(*) FROM transactions WHERE transaction_id = ANY (%s::varchar[])", (list(ids),))
    return _one(cur)


def count_labelled(cur: Cursor, limit: int) -> int:
    """How many transactions have a known class, counted up to `limit`."""
    cur.execute(_LABELLED, (limit,))
    return _one(cur)


def any_not_simulated(cur: Cursor) -> bool:
    """Whether there is a transaction that was not simulated."""
    cur.execute(_NOT_SIMULATED)
    return bool(_one(cur))


# --- Populations and their optimum ----------------------------------------------------------------
def store_simulation(
    cur: Cursor, population: str, parameters: Mapping[str, Any], optimum: Mapping[str, Any]
) -> None:
    """Store the optimum of a population, identified by its digest; an existing one is replaced."""
    cur.execute(_STORE_SIMULATION, (population, json.dumps(parameters), json.dumps(optimum)))


def read_simulation(cur: Cursor, population: str) -> dict[str, Any] | None:
    """The stored optimum of a population."""
    cur.execute("SELECT optimum FROM simulations WHERE population = %s", (population,))
    row: tuple[dict[str, Any]] | None = cur.fetchone()
    return None if row is None else row[0]


def first_optimum(cur: Cursor) -> StoredOptimum | None:
    """The optimum of the oldest population, from which history was written; drifted ones are newer."""
    cur.execute("SELECT population, optimum FROM simulations ORDER BY created_at LIMIT 1")
    row = cur.fetchone()
    if row is None:
        return None
    figures = {
        name: float(value)
        for name, value in row[1].items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    return StoredOptimum(row[0], figures)


_INSERT_TRUTH: Final = """
    INSERT INTO simulated_labels (transaction_id, label, due_at, sent_at)
    SELECT * FROM unnest(%s::varchar[], %s::smallint[], %s::timestamptz[], %s::timestamptz[])
    ON CONFLICT (transaction_id) DO NOTHING
"""
# SKIP LOCKED lets concurrent runs share the labels instead of sending each of them twice.
_DUE: Final = """
    SELECT transaction_id, label, due_at FROM simulated_labels
    WHERE sent_at IS NULL AND due_at <= %s ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
_LABELLED: Final = (
    "SELECT count(*) FROM (SELECT FROM transactions WHERE class IS NOT NULL LIMIT %s) AS labelled"
)
_NOT_SIMULATED: Final = """
    SELECT EXISTS (
        SELECT FROM transactions AS t
        WHERE NOT EXISTS (SELECT FROM simulated_labels AS s WHERE s.transaction_id = t.transaction_id))
"""
_STORE_SIMULATION: Final = """
    INSERT INTO simulations (population, parameters, optimum) VALUES (%s, %s, %s)
    ON CONFLICT (population) DO UPDATE SET optimum = excluded.optimum
"""


def _one(cur: Cursor) -> int:
    row = cur.fetchone()
    return int(row[0]) if row else 0
