"""Labels: parsed, appended to the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from fraud_adapters.kafka import Record
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_adapters.postgres.labels import StoredLabels, store_labels
from fraud_core.labels import LabelEvent, parse_label
from fraud_core.record_model import Reason
from fraud_streaming.consume.savepoint import together_or_apart
from fraud_streaming.consume.work import Outcome, StreamReason, arrival, dead_letter, sound_and_damaged

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

LABEL_CONFLICT: Final = "label_conflict"  # the label's id is known with other content


@dataclass(frozen=True, slots=True)
class Labels:
    """A chunk: the records that are labels, each with what it says."""

    records: list[Record]
    events: list[LabelEvent]


class LabelWork:
    """See `Work`. A label may come before its transaction."""

    def __init__(self, *, max_bytes: int, payload_bytes: int, clock: Callable[[], datetime]) -> None:
        self._max_bytes = max_bytes
        self._payload_bytes = payload_bytes
        self._clock = clock

    def prepare(self, records: Sequence[Record]) -> tuple[Labels, list[DeadLetter]]:
        sound, letters = sound_and_damaged(records, self._payload_bytes)
        labels = Labels([], [])
        now = self._clock()
        for record in sound:
            said = label_of(record.value, arrival(record, now), self._max_bytes)
            if isinstance(said, LabelEvent):
                labels.records.append(record)
                labels.events.append(said)
            else:
                letters.append(self._letter(record, *said))
        return labels, letters

    def decide(self, prepared: Labels) -> Labels:
        return prepared

    def store(self, cur: Cursor, prepared: Labels) -> Outcome:
        outcome = Outcome()
        if not prepared.events:
            return outcome

        def store(rows: Sequence[int]) -> StoredLabels:
            return store_labels(cur, [prepared.events[row] for row in rows])

        groups, refused = together_or_apart(cur, range(len(prepared.events)), store)
        for rows, stored in groups:
            outcome.stored += len(stored.new_rows)
            outcome.replayed += len(stored.replayed_rows)
            outcome.letters += [
                self._letter(
                    prepared.records[rows[position]], LABEL_CONFLICT, "label_id: is known with other content."
                )
                for position in stored.conflict_rows
            ]
        outcome.letters += [
            self._letter(prepared.records[row], StreamReason.DATABASE_REFUSED, detail)
            for row, detail in refused
        ]
        return outcome

    def _letter(self, record: Record, reason: str, detail: str) -> DeadLetter:
        return dead_letter(record, reason, detail, self._payload_bytes)


def label_of(payload: bytes, at: datetime, max_bytes: int) -> LabelEvent | tuple[Reason, str]:
    """What a record of the labels topic says, or the reason and a sentence why it is no label.

    Args:
        at: when it was reported, where the record does not say.
        max_bytes: larger ones are rejected unread.
    """
    if len(payload) > max_bytes:
        return Reason.TOO_LARGE, f"The record has more than {max_bytes} bytes."
    return parse_label(payload, at)
