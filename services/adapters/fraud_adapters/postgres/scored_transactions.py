"""Stores transactions and what was decided about them: one copy, then idempotent inserts.

Rows are copied as CSV into a temporary table and merged from there, which is several times faster than
inserting them one by one and lets the database resolve races: whoever comes second waits, then compares.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from fraud_adapters.postgres.rows import prediction_arrays, transaction_arrays
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import Predictions

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812


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
    if not predictions.deciding and predictions.run_id is None:
        raise ValueError("predictions that do not decide need a run_id")
    if not len(batch):
        return Stored([], [], [], [])
    columns = transaction_arrays(contract, batch) | prediction_arrays(predictions)
    _stage(cur, _SCORED, columns)
    stored = _merge_transactions(cur, _SCORED, contract, batch, source)
    stored = _insert_predictions(cur, predictions, stored)
    _apply_labels_to_new(cur, stored)
    if known := stored.decided_rows[len(stored.new_rows) :]:
        # They were there without a decision: where it blocks, their silence no longer counts.
        cur.execute("SELECT apply_labels(%s)", ([stored.ids[row] for row in known],))
    return stored


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
    if not len(batch):
        return Stored([], [], [], [])
    _stage(cur, _PLAIN, transaction_arrays(contract, batch, classes))
    stored = _merge_transactions(cur, _PLAIN, contract, batch, source)
    _apply_labels_to_new(cur, stored)
    return stored


# --- statements -----------------------------------------------------------------------------------

_FIELDS: Final = (
    *("time", *(f"v{number}" for number in range(1, 29)), "amount"),
    *("card_id", "merchant_id", "attributes"),
)
_TRANSACTION: Final = ("transaction_id", "event_time", "class", *_FIELDS)
_PREDICTION: Final = (
    *("score", "is_fraud_predicted", "decision", "feature_vector", "latency_ms", "traceparent"),
)
_SCORED: Final = "pg_temp.fraud_staged_scored"
_PLAIN: Final = "pg_temp.fraud_staged_plain"


def _list(names: Sequence[str], prefix: str = "") -> str:
    return ", ".join(prefix + name for name in names)


# Whoever stores the same ids at the same time takes them in the same order, or each could wait for the other.
_ORDER: Final = 'transaction_id COLLATE "C", position'
# The types come from the migrated tables.
_CREATE: Final = {
    _SCORED: f"CREATE TEMPORARY TABLE {_SCORED} ON COMMIT DELETE ROWS AS SELECT 0 AS position, "  # noqa: S608
    f"{_list(_TRANSACTION, 't.')}, {_list(_PREDICTION, 'p.')} FROM transactions t, predictions p "
    "WITH NO DATA",
    _PLAIN: f"CREATE TEMPORARY TABLE {_PLAIN} ON COMMIT DELETE ROWS AS SELECT 0 AS position, "  # noqa: S608
    f"{_list(_TRANSACTION, 't.')} FROM transactions t WITH NO DATA",
}
_INSERT_TRANSACTIONS: Final = f"""
    INSERT INTO transactions ({_list(_TRANSACTION)}, contract, source)
    SELECT {_list(_TRANSACTION)}, %(contract)s, %(source)s FROM {{staged}} ORDER BY {_ORDER}
    ON CONFLICT (transaction_id) DO NOTHING RETURNING transaction_id
"""  # noqa: S608
_COMPARE: Final = f"""
    SELECT s.position, t.contract = %(contract)s
           AND ({_list(_FIELDS, "t.")}) IS NOT DISTINCT FROM ({_list(_FIELDS, "s.")})
    FROM {{staged}} s JOIN transactions t ON t.transaction_id = s.transaction_id
    WHERE s.position = ANY (%(rows)s) ORDER BY s.position
"""  # noqa: S608
_INSERT_PREDICTIONS: Final = f"""
    INSERT INTO predictions (transaction_id, fraud_score, {_list(_PREDICTION)}, prediction_time,
                             model_version, role, run_id, deciding, engine, policy_version)
    SELECT transaction_id, score::numeric(5, 4), {_list(_PREDICTION)},
           coalesce(%(prediction_time)s::timestamptz, clock_timestamp()),
           %(model_version)s, %(role)s, %(run_id)s, %(deciding)s, %(engine)s, %(policy_version)s
    FROM {_SCORED} WHERE position <> ALL (%(conflicts)s::integer[]) ORDER BY {_ORDER}
    ON CONFLICT DO NOTHING
"""  # noqa: S608
# The decision and its alert are one statement: where nothing is blocked or reviewed it costs no round trip.
_INSERT_DECISIONS: Final = f"""
    WITH said AS ({_INSERT_PREDICTIONS} RETURNING transaction_id, decision),
    announced AS (
        INSERT INTO alert_outbox (transaction_id)
        SELECT transaction_id FROM said WHERE decision IN ('block', 'review') ORDER BY transaction_id
        ON CONFLICT DO NOTHING
    )
    SELECT transaction_id FROM said WHERE transaction_id = ANY (%(known)s)
"""  # noqa: S608


def _stage(cur: Cursor, staged: str, columns: dict[str, pa.Array]) -> None:
    if cur.connection.autocommit:
        raise ValueError("storing a batch takes several statements: the connection must not autocommit")
    cur.execute("SELECT to_regclass(%s) IS NULL", (staged,))
    if cur.fetchone() == (True,):
        cur.execute(_CREATE[staged])
    else:
        # Rows of an earlier call in the same transaction; after a commit there are none.
        cur.execute(f"SELECT EXISTS (SELECT FROM {staged})")  # noqa: S608
        if cur.fetchone() == (True,):
            cur.execute(f"TRUNCATE {staged}")
    buffer = io.BytesIO()
    csv.write_csv(pa.table(columns), buffer, csv.WriteOptions(include_header=False))
    buffer.seek(0)
    cur.copy_expert(f"COPY {staged} ({_list(list(columns))}) FROM STDIN (FORMAT csv)", buffer)


def _merge_transactions(cur: Cursor, staged: str, contract: Contract, batch: Batch, source: str) -> Stored:
    values: dict[str, Any] = {"contract": contract.schema_id, "source": source}
    cur.execute(_INSERT_TRANSACTIONS.format(staged=staged), values)
    inserted = {row[0] for row in cur.fetchall()}
    if len(inserted) == len(batch):
        return Stored(batch.ids, list(range(len(batch))), [], [])
    new, rest = [], []
    for position, identifier in enumerate(batch.ids):
        if identifier in inserted:
            inserted.remove(identifier)  # a second one in the batch is compared with the first
            new.append(position)
        else:
            rest.append(position)
    cur.execute(_COMPARE.format(staged=staged), values | {"rows": rest})
    same = dict(cur.fetchall())
    replayed = [position for position in rest if same[position]]
    return Stored(batch.ids, new, replayed, [position for position in rest if not same[position]])


def _insert_predictions(cur: Cursor, predictions: Predictions, stored: Stored) -> Stored:
    values = {
        "model_version": predictions.model_version,
        "prediction_time": predictions.prediction_time,
        "role": predictions.role,
        "run_id": predictions.run_id,
        "deciding": predictions.deciding,
        "engine": predictions.engine,
        "policy_version": predictions.policy_version,
        "conflicts": stored.conflict_rows,
    }
    if not predictions.deciding:
        cur.execute(_INSERT_PREDICTIONS, values)
        return stored
    # A transaction that is new had no decision: only of those known before it has to be asked.
    first = {stored.ids[row]: row for row in reversed(stored.replayed_rows)}
    known = list(first.keys() - set(stored.new)) if first else []
    cur.execute(_INSERT_DECISIONS, values | {"known": known})
    return replace(stored, decided_rows=stored.new_rows + sorted(first[row[0]] for row in cur.fetchall()))


def _apply_labels_to_new(cur: Cursor, stored: Stored) -> None:
    if stored.new_rows:
        cur.execute("SELECT apply_labels_to_new(%s)", (stored.new,))
