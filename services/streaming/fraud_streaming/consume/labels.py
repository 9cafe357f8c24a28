"""The labels topic: labels are parsed and appended to the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from fraud_adapters.kafka import Record
from fraud_adapters.kafka.arrival import arrival
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_adapters.postgres.labels import StoredLabels, store_labels
from fraud_core.labels import LabelEvent, parse_label
from fraud_core.record_model import Reason
from fraud_streaming.consume.processor import ChunkOutcome, StreamReason, dead_letter, split_damaged
from fraud_streaming.consume.savepoint import store_rows

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

LABEL_CONFLICT: Final = "label_conflict"  # a label with this id is stored with other content


@dataclass(frozen=True, slots=True)
class Labels:
    """The valid records of a chunk, and the label that each of them holds."""

    records: list[Record]
    events: list[LabelEvent]


class LabelProcessor:
    """See `RecordProcessor`. A label may arrive before its transaction."""

    def __init__(self, *, max_bytes: int, payload_bytes: int, clock: Callable[[], datetime]) -> None:
        self._max_bytes = max_bytes
        self._payload_bytes = payload_bytes
        self._clock = clock

    def prepare(self, records: Sequence[Record]) -> tuple[Labels, list[DeadLetter]]:
        sound, dead_letters = split_damaged(records, self._payload_bytes)
        labels = Labels([], [])
        now = self._clock()
        for record in sound:
            label = parse_label_record(record.value, arrival(record, now), self._max_bytes)
            if isinstance(label, LabelEvent):
                labels.records.append(record)
                labels.events.append(label)
            else:
                dead_letters.append(self._letter(record, *label))
        return labels, dead_letters

    def decide(self, prepared: Labels) -> Labels:
        return prepared

    def store(self, cur: Cursor, prepared: Labels) -> ChunkOutcome:
        outcome = ChunkOutcome()
        if not prepared.events:
            return outcome

        def store(rows: Sequence[int]) -> StoredLabels:
            return store_labels(cur, [prepared.events[row] for row in rows])

        groups, refused = store_rows(cur, range(len(prepared.events)), store)
        for rows, stored in groups:
            outcome.stored += len(stored.new_rows)
            outcome.replayed += len(stored.replayed_rows)
            outcome.dead_letters += [
                self._letter(
                    prepared.records[rows[position]], LABEL_CONFLICT, "label_id: is known with other content."
                )
                for position in stored.conflict_rows
            ]
        outcome.dead_letters += [
            self._letter(prepared.records[row], StreamReason.DATABASE_REFUSED, detail)
            for row, detail in refused
        ]
        return outcome

    def _letter(self, record: Record, reason: str, detail: str) -> DeadLetter:
        return dead_letter(record, reason, detail, self._payload_bytes)


def parse_label_record(payload: bytes, at: datetime, max_bytes: int) -> LabelEvent | tuple[Reason, str]:
    """The label that a record holds, or the reason code and a sentence why it does not hold one.

    Args:
        at: the time of the report if the record does not name it.
        max_bytes: larger records are rejected without parsing.
    """
    if len(payload) > max_bytes:
        return Reason.TOO_LARGE, f"The record has more than {max_bytes} bytes."
    return parse_label(payload, at)
