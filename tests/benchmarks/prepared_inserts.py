"""A transaction and its prediction by two prepared INSERTs: what is written where nothing else is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from fraud_adapters.postgres.placement import NUMERIC_COLUMNS

NUMBERS: Final = list(NUMERIC_COLUMNS)
TRANSACTION: Final = ("transaction_id", "event_time", *NUMBERS, "contract", "source")
PREDICTION: Final = (
    *("transaction_id", "score", "fraud_score", "is_fraud_predicted", "decision", "feature_vector"),
    *("latency_ms", "prediction_time", "model_version", "role", "deciding", "engine", "policy_version"),
)
_NAMES: Final = (
    ("add_transaction", "transactions", TRANSACTION),
    ("add_prediction", "predictions", PREDICTION),
)
_EXECUTE: Final = tuple(f"EXECUTE {name} ({', '.join(['%s'] * len(columns))})" for name, _, columns in _NAMES)


def prepare(cursor: Cursor) -> None:
    """Prepare both, once in a session."""
    for name, table, columns in _NAMES:
        marks = ", ".join(f"${number}" for number, _ in enumerate(columns, 1))
        cursor.execute(f"PREPARE {name} AS INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})")


def insert(cursor: Cursor, transaction: Sequence[Any], prediction: Sequence[Any]) -> None:
    """One row into each table: values in the order of `TRANSACTION` and `PREDICTION`."""
    for statement, values in zip(_EXECUTE, (transaction, prediction), strict=True):
        cursor.execute(statement, values)
