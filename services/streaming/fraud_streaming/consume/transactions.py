"""Transactions: parsed, scored by whoever decides, stored with their predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from config.constants import HEADER_SCHEMA, HEADER_TRACEPARENT
from fraud_adapters.kafka import Record
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_adapters.postgres.scored_transactions import Stored, store_scored
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_core.predictions import Predictions
from fraud_core.record_model import Reason
from fraud_core.records import RecordParser
from fraud_core.traceparent import parse_traceparent
from fraud_streaming.consume.savepoint import together_or_apart
from fraud_streaming.consume.work import Outcome, StreamReason, arrival, dead_letter, sound_and_damaged

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

SOURCE: Final = "stream"  # what `transactions.source` says of these


class Scorer(Protocol):
    """Whoever decides: the API's client."""

    def score(
        self, contract: Contract, batch: Batch, traceparents: Sequence[str | None] | None = None
    ) -> Predictions:
        """Predictions for each row, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Transactions:
    """A chunk: the records that are transactions, row by row with the batch, and their predictions."""

    records: list[Record]
    batch: Batch
    predictions: Predictions | None = None


class TransactionWork:
    """See `Work`.

    Args:
        payload_bytes: how much of a rejected record is kept.
        clock: now, for records without a timestamp.
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
        sound, letters = sound_and_damaged(records, self._payload_bytes)
        ours = [record for record in sound if self._is_ours(record)]
        letters += [self._of_another_contract(record) for record in sound if not self._is_ours(record)]
        now = self._clock()
        parsed = self._parser.parse(
            [record.value for record in ours], [arrival(record, now) for record in ours]
        )
        letters += [self._letter(ours[bad.index], bad.reason, bad.detail) for bad in parsed.rejected]
        return Transactions([ours[index] for index in parsed.kept], parsed.batch), letters

    def decide(self, prepared: Transactions) -> Transactions:
        if not prepared.records:
            return prepared
        traces = [parse_traceparent(record.headers.get(HEADER_TRACEPARENT)) for record in prepared.records]
        return replace(prepared, predictions=self._scorer.score(self._contract, prepared.batch, traces))

    def store(self, cur: Cursor, prepared: Transactions) -> Outcome:
        outcome = Outcome()
        predictions = prepared.predictions
        if predictions is None:
            return outcome

        def store(rows: Sequence[int]) -> Stored:
            if len(rows) == len(prepared.batch):
                return store_scored(cur, self._contract, prepared.batch, predictions, SOURCE)
            return store_scored(
                cur, self._contract, prepared.batch.take(rows), predictions.take(rows), SOURCE
            )

        groups, refused = together_or_apart(cur, range(len(prepared.batch)), store)
        for rows, stored in groups:
            outcome.stored += len(stored.new_rows)
            outcome.replayed += len(stored.replayed_rows)
            outcome.letters += [
                self._letter(
                    prepared.records[rows[position]],
                    Reason.ID_CONFLICT,
                    "transaction_id: is known with other fields.",
                )
                for position in stored.conflict_rows
            ]
        outcome.letters += [
            self._letter(prepared.records[row], StreamReason.DATABASE_REFUSED, detail)
            for row, detail in refused
        ]
        return outcome

    def _is_ours(self, record: Record) -> bool:
        # Some clients cannot leave a header out: they send an empty one, or null, which is read as empty.
        return (record.headers.get(HEADER_SCHEMA) or self._schema) == self._schema

    def _of_another_contract(self, record: Record) -> DeadLetter:
        named = record.headers[HEADER_SCHEMA][:60].decode("ascii", "backslashreplace")
        return self._letter(
            record,
            Reason.SCHEMA_MISMATCH,
            f"The header names the contract {named}; {self._contract.schema_id} is in force.",
        )

    def _letter(self, record: Record, reason: str, detail: str) -> DeadLetter:
        return dead_letter(record, reason, detail, self._payload_bytes)
