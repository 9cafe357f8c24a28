"""What the decision to train is based on: labels that are new, and predictions whose label is mature.

Only the SQL function `labels_as_of` decides which labels are mature.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg2.extensions import connection as Connection  # noqa: N812

from fraud_adapters.postgres import interruptible
from fraud_adapters.postgres.examples import read_whole_tables
from fraud_core.contract import Contract
from fraud_core.metrics import Confusion


@dataclass(frozen=True, slots=True)
class LabelledPredictions:
    """Deciding predictions of one version against mature labels.

    `left_out_blocked` counts its blocked transactions without an explicit label: whether they were frauds is
    not known, so that recall and FPR are those of the rest.
    """

    counts: Confusion
    left_out_blocked: int


def count_new_labels(
    connection: Connection, contract: Contract, now: datetime, before: datetime | None
) -> int:
    """How many transactions are examples as of `now`, and were not when labels were read as of `before`.

    A transaction that was stored after `before` is new, whatever its event time and its label's.
    """
    values = {"now": now, "before": before or "-infinity", "contract": contract.schema_id}
    return int(_row(connection, _NEW_LABELS, values)[0])


def labelled_predictions(
    connection: Connection, contract: Contract, version: str, now: datetime, newest: int
) -> LabelledPredictions:
    """The outcomes of the version's deciding predictions whose label is mature; at most the `newest`."""
    values = {"now": now, "version": version, "contract": contract.schema_id, "newest": newest}
    tp, fp, tn, fn, blocked = map(int, _row(connection, _PERFORMANCE, values))
    return LabelledPredictions(Confusion(tp, fp, tn, fn), blocked)


def _row(connection: Connection, statement: str, values: dict[str, Any]) -> tuple[Any, ...]:
    with connection, connection.cursor() as cursor:
        read_whole_tables(cursor)
        interruptible(connection, lambda: cursor.execute(statement, values))
        row: tuple[Any, ...] | None = cursor.fetchone()
    assert row is not None
    return row


_NEW_LABELS: Final = """
    SELECT count(*) FROM transactions x
    JOIN (SELECT transaction_id AS labelled FROM labels_as_of(%(now)s) WHERE mature) l
        ON l.labelled = x.transaction_id
    LEFT JOIN (SELECT transaction_id AS known FROM labels_as_of(%(before)s::timestamptz) WHERE mature) k
        ON k.known = x.transaction_id
    WHERE x.contract = %(contract)s AND x.event_time <= %(now)s
      AND (k.known IS NULL OR x.ingestion_timestamp > %(before)s::timestamptz)
"""
_PERFORMANCE: Final = """
    WITH decided AS (
        SELECT p.is_fraud_predicted AS flagged, p.decision, x.event_time, l.label
        FROM predictions p
        JOIN transactions x ON x.transaction_id = p.transaction_id
        LEFT JOIN (SELECT transaction_id AS labelled, label FROM labels_as_of(%(now)s) WHERE mature) l
            ON l.labelled = p.transaction_id
        WHERE p.deciding AND p.model_version = %(version)s AND x.contract = %(contract)s
          AND x.event_time <= %(now)s
    ), judged AS (
        SELECT flagged, label = 1 AS fraud FROM decided WHERE label IS NOT NULL
        ORDER BY event_time DESC LIMIT %(newest)s
    )
    SELECT count(*) FILTER (WHERE flagged AND fraud), count(*) FILTER (WHERE flagged AND NOT fraud),
           count(*) FILTER (WHERE NOT flagged AND NOT fraud), count(*) FILTER (WHERE NOT flagged AND fraud),
           (SELECT count(*) FROM decided WHERE label IS NULL AND decision = 'block')
    FROM judged
"""
