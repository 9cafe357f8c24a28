"""The simulator's memory in Postgres: what is true, when it is told, and the best possible model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fraud_producer.optimum import Optimum
from fraud_producer.population import Population

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

_INSERT = """
    INSERT INTO simulated_labels (transaction_id, label, due_at, sent_at)
    SELECT * FROM unnest(%s::varchar[], %s::smallint[], %s::timestamptz[], %s::timestamptz[])
    ON CONFLICT (transaction_id) DO NOTHING
"""
# Two runs at once share the work instead of sending everything twice.
_DUE = """
    SELECT transaction_id, label, due_at FROM simulated_labels
    WHERE sent_at IS NULL AND due_at <= %s ORDER BY due_at LIMIT %s FOR UPDATE SKIP LOCKED
"""
_STORE_SIMULATION = """
    INSERT INTO simulations (population, parameters, optimum) VALUES (%s, %s, %s)
    ON CONFLICT (population) DO UPDATE SET optimum = excluded.optimum
"""


def store_truth(
    cur: Cursor,
    ids: Sequence[str],
    labels: Sequence[int],
    due: Sequence[datetime],
    sent: Sequence[datetime | None] | None = None,
) -> int:
    """Remember the truth about n transactions; what is remembered already stays. Gives how many were new."""
    if not ids:
        return 0
    cur.execute(_INSERT, (list(ids), list(labels), list(due), list(sent or [None] * len(ids))))
    return int(cur.rowcount)


def lock_run(cur: Cursor, run: str) -> None:
    """Two processes with the same run id go one after the other, until the transaction ends."""
    cur.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"fraud_producer/{run}",))


def due_of(cur: Cursor, transaction_id: str) -> datetime | None:
    cur.execute("SELECT due_at FROM simulated_labels WHERE transaction_id = %s", (transaction_id,))
    row = cur.fetchone()
    return row[0] if row else None


def due_labels(cur: Cursor, now: datetime, limit: int) -> list[tuple[str, int, datetime]]:
    """Truths that are due and were not sent, the oldest first, locked until the transaction ends."""
    cur.execute(_DUE, (now, limit))
    rows: list[tuple[str, int, datetime]] = cur.fetchall()
    return rows


def mark_sent(cur: Cursor, ids: Sequence[str], now: datetime) -> None:
    cur.execute(
        "UPDATE simulated_labels SET sent_at = %s WHERE transaction_id = ANY (%s::varchar[])",
        (now, list(ids)),
    )


def known_optimum(cur: Cursor, population: Population, bounds: dict[str, float]) -> Optimum | None:
    """The optimum computed earlier for this population and these bounds."""
    cur.execute("SELECT optimum FROM simulations WHERE population = %s", (population.digest,))
    row: tuple[dict[str, Any]] | None = cur.fetchone()
    if row is None:
        return None
    optimum = Optimum.from_mapping(row[0])
    return optimum if optimum.bounds == bounds else None


def store_optimum(cur: Cursor, population: Population, optimum: Optimum) -> None:
    parameters, figures = json.dumps(population.to_mapping()), json.dumps(optimum.to_mapping())
    cur.execute(_STORE_SIMULATION, (population.digest, parameters, figures))


def present(cur: Cursor, ids: Sequence[str]) -> int:
    """How many of these transactions are stored."""
    cur.execute("SELECT count(*) FROM transactions WHERE transaction_id = ANY (%s::varchar[])", (list(ids),))
    row = cur.fetchone()
    return int(row[0]) if row else 0
