"""Stores transactions and what was decided about them, by functions of the database (migration 0011).

They insert what is not there and compare the rest, so the database resolves races: whoever comes second
waits, then compares. Their statements are planned once a session. A few rows are stored by one call; of many,
the predictions are copied.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_UNKNOWN

from fraud_adapters.postgres.prediction_rows import COLUMNS, prediction_rows
from fraud_adapters.postgres.rows import Arguments, prediction_arguments, text_array, transaction_arguments
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import Predictions

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

# A lost connection has begun nothing; the statement will say that it is lost.
_BETWEEN_TRANSACTIONS: Final = (TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_UNKNOWN)
COPIED_FROM: Final = 100  # rows: of so many new transactions, copying the predictions costs less than a call
ANNOUNCED: Final = frozenset({"block", "review"})  # decisions that become alerts


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of each row of a batch, by its position.

    New: the transaction was not there. Replayed: it was, or came earlier in the batch, with the same
    quantised fields; nothing is doubled. Conflict: it was there with other fields; nothing was stored.
    Decided: this row's prediction is now its transaction's deciding one. All new rows of predictions that
    decide are, and of the replayed ones those whose transaction was known, as history, without a decision.
    """

    ids: Sequence[str]
    new_rows: list[int]
    replayed_rows: list[int]
    conflict_rows: list[int]
    decided_rows: list[int] = field(default_factory=list)

    @property
    def new(self) -> list[str]:
        return [self.ids[row] for row in self.new_rows]

    @property
    def replayed(self) -> list[str]:
        return [self.ids[row] for row in self.replayed_rows]

    @property
    def decided_before(self) -> list[str]:
        """Ids of replayed rows whose transaction has a deciding prediction that is not this batch's."""
        decided = {self.ids[row] for row in self.decided_rows}
        return [identifier for identifier in self.replayed if identifier not in decided]

    @property
    def conflicts(self) -> list[str]:
        return [self.ids[row] for row in self.conflict_rows]


def store_scored(
    cur: Cursor, contract: Contract, batch: Batch, predictions: Predictions, source: str
) -> Stored:
    """Store transactions with their predictions in the cursor's transaction; the caller commits.

    What a prediction newly blocks or sends to review goes to the outbox of alerts in the same transaction.
    Repeating it changes nothing. A label that came before its transaction counts from here on.

    Raises:
        ValueError: predictions that do not decide carry no run id, or arrays differ in length.
        psycopg2.Error: a value is refused (NaN, too long); then nothing of the batch is stored.
    """
    if cur.connection.autocommit:
        raise ValueError("a batch is stored in the caller's transaction: the connection must not autocommit")
    return _store_scored(cur, contract, batch, predictions, source)


def commit_scored(
    cur: Cursor, contract: Contract, batch: Batch, predictions: Predictions, source: str
) -> Stored:
    """As `store_scored`, in a transaction of its own, which is committed when it returns.

    A few rows take one round trip: the server begins and commits around the call.

    Raises:
        ValueError: as `store_scored`, or a transaction has begun already.
        psycopg2.Error: as `store_scored`.
    """
    connection = cur.connection
    if connection.info.transaction_status not in _BETWEEN_TRANSACTIONS:
        raise ValueError("a batch is to be committed alone, but a transaction has begun already")
    if len(batch) >= COPIED_FROM:
        with connection:
            return _store_scored(cur, contract, batch, predictions, source)
    connection.autocommit = True
    try:
        return _store_scored(cur, contract, batch, predictions, source)
    finally:
        if not connection.closed:
            connection.autocommit = False


def _store_scored(
    cur: Cursor, contract: Contract, batch: Batch, predictions: Predictions, source: str
) -> Stored:
    if not predictions.deciding and predictions.run_id is None:
        raise ValueError("predictions that do not decide need a run_id")
    if not len(batch):
        return Stored([], [], [], [])
    if len(predictions) != len(batch):
        raise ValueError(f"{len(predictions)} predictions were made of {len(batch)} transactions")
    store = _store_by_one_call if len(batch) < COPIED_FROM else _store_by_copy
    stored, decided_ids = store(cur, contract, batch, predictions, source)
    if not predictions.deciding:
        return stored
    first = {batch.ids[row]: row for row in reversed(stored.replayed_rows)} if decided_ids else {}
    return replace(stored, decided_rows=stored.new_rows + sorted(first[one] for one in decided_ids))


def store_transactions(
    cur: Cursor,
    contract: Contract,
    batch: Batch,
    source: str,
    classes: NDArray[np.int64] | Sequence[int | None] | None = None,
) -> Stored:
    """Store transactions nobody scored: history. Otherwise as `store_scored`.

    Args:
        classes: n labels to put into `class` at once, instead of the batch's own label column.
    """
    if cur.connection.autocommit:
        raise ValueError("a batch is stored in the caller's transaction: the connection must not autocommit")
    if not len(batch):
        return Stored([], [], [], [])
    arguments = _batch_arguments(contract, batch, source, classes)
    _, new_ids, *rows, _ = _call(cur, _MERGE_TRANSACTIONS, arguments)
    if new_ids:
        cur.execute(_APPLY_LABELS_TO_NEW, (new_ids,))
    return _stored(batch, *rows)


def _store_by_one_call(
    cur: Cursor, contract: Contract, batch: Batch, predictions: Predictions, source: str
) -> tuple[Stored, list[str]]:
    arguments = _batch_arguments(contract, batch, source) | prediction_arguments(predictions)
    *rows, decided_ids = _call(cur, _STORE_SCORED, arguments)
    return _stored(batch, *rows), decided_ids


def _store_by_copy(
    cur: Cursor, contract: Contract, batch: Batch, predictions: Predictions, source: str
) -> tuple[Stored, list[str]]:
    """Copy the predictions where all transactions are new: nobody else can have stored any of them."""
    merged = _call(cur, _MERGE_TRANSACTIONS, _batch_arguments(contract, batch, source))
    ordered, new_ids, *rows, moment = merged
    stored = _stored(batch, *rows)
    if len(stored.new_rows) < len(batch):
        arguments = {
            "ids": text_array(batch.ids),
            "ordered": ordered,
            "new_ids": new_ids,
            "replayed_rows": rows[1],
            "conflict_rows": rows[2],
        }
        (decided_ids,) = _call(cur, _STORE_PREDICTIONS, arguments | prediction_arguments(predictions))
        return stored, decided_ids
    cur.copy_expert(_COPY_PREDICTIONS, io.BytesIO(prediction_rows(batch.ids, predictions, moment)))
    if predictions.deciding:
        decided = zip(batch.ids, predictions.decisions, strict=True)
        if announced := [identifier for identifier, decision in decided if decision in ANNOUNCED]:
            cur.execute(_INSERT_ALERTS, (announced,))
    cur.execute(_APPLY_LABELS_TO_NEW, (new_ids,))
    return stored, []


_MERGED: Final = ("ordered", "new_ids", "replayed_rows", "conflict_rows")
_TRANSACTION: Final = (
    *("contract_id", "source_name", "ids", "event_times", "numbers", "card_ids", "merchant_ids"),
    *("attributes", "classes"),
)
_PREDICTION: Final = (
    *("scores", "fraud_predicted", "decisions", "vectors", "width", "latencies", "traceparents"),
    *("prediction_time", "model_version", "role", "run_id", "deciding", "engine", "policy_version"),
)


def _parameters(names: Sequence[str]) -> str:
    return ", ".join(f"{name} => %({name})s" for name in names)


_MERGE_TRANSACTIONS: Final = f"""
    SELECT ordered, new_ids, new_rows, replayed_rows, conflict_rows, clock_timestamp()
    FROM merge_transactions({_parameters(_TRANSACTION)})
"""  # noqa: S608
_STORE_PREDICTIONS: Final = f"""
    SELECT store_predictions({_parameters(("ids", *_MERGED, *_PREDICTION))})
"""
_STORE_SCORED: Final = f"""
    SELECT new_rows, replayed_rows, conflict_rows, decided_ids
    FROM store_scored({_parameters(_TRANSACTION + _PREDICTION)})
"""  # noqa: S608
_COPY_PREDICTIONS: Final = f"COPY predictions ({', '.join(COLUMNS)}) FROM STDIN (FORMAT binary)"
_INSERT_ALERTS: Final = "INSERT INTO alert_outbox (transaction_id) SELECT unnest(%s)"
_APPLY_LABELS_TO_NEW: Final = "SELECT apply_labels_to_new(%s)"


def _batch_arguments(
    contract: Contract,
    batch: Batch,
    source: str,
    classes: NDArray[np.int64] | Sequence[int | None] | None = None,
) -> Arguments:
    shared: Arguments = {"contract_id": contract.schema_id, "source_name": source}
    return shared | transaction_arguments(contract, batch, classes)


def _call(cur: Cursor, statement: str, arguments: Arguments) -> tuple[Any, ...]:
    cur.execute(statement, arguments)
    row: tuple[Any, ...] | None = cur.fetchone()
    assert row is not None
    return row


def _stored(batch: Batch, new: list[int], replayed: list[int], conflicts: list[int]) -> Stored:
    """By positions from 0, in their order; the database counts from 1."""
    rows = ([position - 1 for position in sorted(positions)] for positions in (new, replayed, conflicts))
    return Stored(batch.ids, *rows)
