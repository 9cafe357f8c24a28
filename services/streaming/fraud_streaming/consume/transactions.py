"""The transactions topic: transactions are parsed, scored, and stored with their predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from config.constants import HEADER_SCHEMA, HEADER_TRACEPARENT
from fraud_adapters.kafka import Record
from fraud_adapters.kafka.arrival import arrival
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_adapters.postgres.scored_transactions import Stored, store_scored
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import PredictedRows
from fraud_core.record_model import Reason
from fraud_core.records import RecordParser
from fraud_core.traceparent import parse_traceparent
from fraud_streaming.consume.processor import ChunkOutcome, StreamReason, dead_letter, split_damaged
from fraud_streaming.consume.savepoint import store_rows

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SOURCE: Final = "stream"  # the value of the column `transactions.source`


class Scorer(Protocol):
    """Scores batches; implemented by `ApiClient`."""

    def score(
        self, contract: Contract, batch: Batch, traceparents: Sequence[str | None] | None = None
    ) -> Sequence[PredictedRows]:
        """Predictions for each row, by the models that have scored them."""
        ...


@dataclass(frozen=True, slots=True)
class Transactions:
    """The valid records of a chunk, the batch with one row for each, and their predictions by model."""

    records: list[Record]
    batch: Batch
    predictions: Sequence[PredictedRows] = ()


class TransactionProcessor:
    """See `RecordProcessor`.

    Args:
        payload_bytes: how much of a rejected record is kept.
        clock: the current time, for records without a timestamp.
    """

    def __init__(
        self,
        contract: Contract,
        parser: RecordParser,
        scorer: Scorer,
        *,
        payload_bytes: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._contract = contract
        self._parser = parser
        self._scorer = scorer
        self._payload_bytes = payload_bytes
        self._clock = clock
        self._schema = contract.schema_id.encode()

    def prepare(self, records: Sequence[Record]) -> tuple[Transactions, list[DeadLetter]]:
        sound, dead_letters = split_damaged(records, self._payload_bytes)
        matching = [record for record in sound if self._matches_contract(record)]
        dead_letters += [
            self._schema_mismatch(record) for record in sound if not self._matches_contract(record)
        ]
        now = self._clock()
        parsed = self._parser.parse(
            [record.value for record in matching], [arrival(record, now) for record in matching]
        )
        dead_letters += [self._letter(matching[bad.index], bad.reason, bad.detail) for bad in parsed.rejected]
        return Transactions([matching[index] for index in parsed.kept], parsed.batch), dead_letters

    def decide(self, prepared: Transactions) -> Transactions:
        if not prepared.records:
            return prepared
        traces = [parse_traceparent(record.headers.get(HEADER_TRACEPARENT)) for record in prepared.records]
        return replace(prepared, predictions=self._scorer.score(self._contract, prepared.batch, traces))

    def store(self, cur: Cursor, prepared: Transactions) -> ChunkOutcome:
        outcome = ChunkOutcome()
        for part in prepared.predictions:
            self._store(cur, prepared, part, outcome)
        return outcome

    def _store(self, cur: Cursor, prepared: Transactions, part: PredictedRows, outcome: ChunkOutcome) -> None:
        """Store what one model has scored, and add it to the outcome."""
        whole = len(part.rows) == len(prepared.batch)
        batch = prepared.batch if whole else prepared.batch.take(part.rows)
        records = [prepared.records[row] for row in part.rows]

        def store(rows: Sequence[int]) -> Stored:
            if len(rows) == len(batch):
                return store_scored(cur, self._contract, batch, part.predictions, SOURCE)
            return store_scored(cur, self._contract, batch.take(rows), part.predictions.take(rows), SOURCE)

        groups, refused = store_rows(cur, range(len(batch)), store)
        for rows, stored in groups:
            outcome.stored += len(stored.new_rows)
            outcome.replayed += len(stored.replayed_rows)
            outcome.dead_letters += [
                self._letter(
                    records[rows[position]],
                    Reason.ID_CONFLICT,
                    "transaction_id: is known with other fields.",
                )
                for position in stored.conflict_rows
            ]
        outcome.dead_letters += [
            self._letter(records[row], StreamReason.DATABASE_REFUSED, detail) for row, detail in refused
        ]

    def _matches_contract(self, record: Record) -> bool:
        # Some clients cannot omit a header: they send an empty one, or null, which is read as empty.
        return (record.headers.get(HEADER_SCHEMA) or self._schema) == self._schema

    def _schema_mismatch(self, record: Record) -> DeadLetter:
        named = record.headers[HEADER_SCHEMA][:60].decode("ascii", "backslashreplace")
        return self._letter(
            record,
            Reason.SCHEMA_MISMATCH,
            f"The header names the contract {named}; {self._contract.schema_id} is in force.",
        )

    def _letter(self, record: Record, reason: str, detail: str) -> DeadLetter:
        return dead_letter(record, reason, detail, self._payload_bytes)
