"""What a person looks at to decide a case: its values, those of others, and what came before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_adapters.postgres.placement import placement
from fraud_core.contract import Contract

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier transaction, with what was decided and what is known of it."""

    transaction_id: str
    event_time: datetime
    amount: float | None
    merchant_id: str | None
    score: float | None
    decision: str | None
    transaction_class: int | None
    class_implied: bool | None
    case_id: int | None


@dataclass(frozen=True, slots=True)
class LabelReport:
    """A label in the ledger."""

    label: int
    source: str
    reported_at: datetime
    reported_by: str | None


_EARLIER: Final = """
    SELECT x.transaction_id, x.event_time, x.amount::float8, x.merchant_id, p.score, p.decision, x.class,
        x.class_implied, c.case_id
    FROM transactions x
    LEFT JOIN predictions p ON p.transaction_id = x.transaction_id AND p.deciding
    LEFT JOIN cases c ON c.transaction_id = x.transaction_id
"""


def values_of(cursor: Cursor, contract: Contract, transaction_id: str) -> dict[str, Any]:
    """The fields of a transaction by their names in the contract: floats for numbers, text for others."""
    expressions = placement(contract).expressions(contract)
    cursor.execute(
        f"SELECT {', '.join(expressions.values())} FROM transactions WHERE transaction_id = %s",  # noqa: S608
        (transaction_id,),
    )
    row = cursor.fetchone()
    return dict(zip(expressions, row, strict=True)) if row else {}


def population(cursor: Cursor, contract: Contract, rows: int) -> Mapping[str, NDArray[np.float64]]:
    """The values of each numeric field in the latest transactions, sorted; without missing ones."""
    expressions = {
        name: text
        for name, text in placement(contract).expressions(contract).items()
        if contract.field(name).numeric
    }
    if not expressions:
        return {}
    cursor.execute(
        f"SELECT {', '.join(expressions.values())} FROM transactions WHERE contract = %s"  # noqa: S608
        " ORDER BY ingestion_timestamp DESC LIMIT %s",
        (contract.schema_id, rows),
    )
    table = np.array(cursor.fetchall(), dtype=np.float64).reshape(-1, len(expressions))
    columns = (np.sort(column[~np.isnan(column)]) for column in table.T)
    return dict(zip(expressions, columns, strict=True))


def earlier_of_card(cursor: Cursor, card_id: str, before: datetime, limit: int) -> list[Earlier]:
    """The latest transactions of a card before a moment."""
    cursor.execute(
        f"{_EARLIER} WHERE x.card_id = %s AND x.event_time < %s ORDER BY x.event_time DESC LIMIT %s",
        (card_id, before, limit),
    )
    return [Earlier(*row) for row in cursor.fetchall()]


def earlier_by_id(cursor: Cursor, transaction_ids: Sequence[str]) -> list[Earlier]:
    """Transactions in the order of their ids as given."""
    cursor.execute(f"{_EARLIER} WHERE x.transaction_id = ANY (%s)", (list(transaction_ids),))
    found = {row[0]: Earlier(*row) for row in cursor.fetchall()}
    return [found[one] for one in transaction_ids if one in found]


def labelled_vectors(cursor: Cursor, contract: Contract, limit: int) -> tuple[list[str], NDArray[np.float64]]:
    """Ids and features of the transactions about which something was reported last: [n], [n, features]."""
    width = len(contract.feature_names)
    cursor.execute(
        "SELECT p.transaction_id, p.feature_vector FROM"
        " (SELECT transaction_id, max(reported_at) AS reported_at FROM"
        "  (SELECT transaction_id, reported_at FROM labels ORDER BY reported_at DESC LIMIT %(limit)s) latest"
        "  GROUP BY transaction_id) l"
        " JOIN predictions p ON p.transaction_id = l.transaction_id AND p.deciding"
        " WHERE cardinality(p.feature_vector) = %(width)s",
        {"limit": limit, "width": width},
    )
    rows = cursor.fetchall()
    vectors = np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, width)
    return [row[0] for row in rows], vectors


def feature_vector(cursor: Cursor, transaction_id: str) -> NDArray[np.float64] | None:
    """The features of a transaction's deciding prediction, [features]."""
    cursor.execute(
        "SELECT feature_vector FROM predictions WHERE transaction_id = %s AND deciding", (transaction_id,)
    )
    row = cursor.fetchone()
    return None if row is None else np.array(row[0], dtype=np.float64)


def label_reports(cursor: Cursor, transaction_id: str) -> list[LabelReport]:
    """What was reported about a transaction, the newest first."""
    cursor.execute(
        "SELECT label, source, reported_at, reported_by FROM labels WHERE transaction_id = %s"
        " ORDER BY reported_at DESC, label_id LIMIT 50",
        (transaction_id,),
    )
    return [LabelReport(*row) for row in cursor.fetchall()]
