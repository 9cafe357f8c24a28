"""How the records of a topic are processed, independent of how they are read and committed.

The pump (`pump.py`) owns the loop, the threads, the retry and the commit; a `RecordProcessor` turns a chunk
of records into rows. A record that cannot be processed is a value, a `DeadLetter`, never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from config.constants import HEADER_ORIGIN_TIMESTAMP, HEADER_REDRIVEN, HEADER_SCHEMA, HEADER_TRACEPARENT
from fraud_adapters.kafka import Record
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_core.moments import moment_of_milliseconds
from fraud_core.plain_numbers import parse_whole_number

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

PreparedT = TypeVar("PreparedT")

MAX_KEY_BYTES: Final = 1024
MAX_HEADER_BYTES: Final = 256
_KEPT_HEADERS: Final = (HEADER_SCHEMA, HEADER_TRACEPARENT)
_LATEST_MS: Final = 10**18


class StreamReason(StrEnum):
    """Why a record that could be parsed was not stored."""

    DATABASE_REFUSED = "database_refused"  # it violates a constraint or a type of the database


@dataclass(slots=True)
class ChunkOutcome:
    """The result of storing a chunk: counts, and the records that the database refused."""

    stored: int = 0
    replayed: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)


class RecordProcessor(Protocol[PreparedT]):
    """Processes the records of one topic; each step may run in its own thread, in the order of the topic."""

    def prepare(self, records: Sequence[Record]) -> tuple[PreparedT, list[DeadLetter]]:
        """Parse the records, without I/O. A record that cannot be parsed becomes a dead letter."""
        ...

    def decide(self, prepared: PreparedT) -> PreparedT:
        """Score the records. An exception stops the run; the next run reads the chunk again."""
        ...

    def store(self, cur: Cursor, prepared: PreparedT) -> ChunkOutcome:
        """Write in the transaction of `cur`; must be idempotent."""
        ...


def arrival(record: Record, now: datetime) -> datetime:
    """The record's timestamp, or `now` if it has none or one outside the range of a datetime.

    The sender may set any 64-bit number; raising an error here would block the partition for good.
    """
    sent = sent_at_ms(record)
    return now if sent < 0 else moment_of_milliseconds(sent) or now


def sent_at_ms(record: Record) -> int:
    """The record's timestamp in milliseconds since 1970; of a redriven record, that of the original one."""
    first = record.headers.get(HEADER_ORIGIN_TIMESTAMP)
    if first is None or not record.headers.get(HEADER_REDRIVEN):
        return record.timestamp_ms
    try:
        return parse_whole_number(first.decode("ascii", "replace"), 0, _LATEST_MS)
    except ValueError:
        return record.timestamp_ms


def dead_letter(record: Record, reason: str, detail: str, payload_bytes: int) -> DeadLetter:
    """A record that cannot be processed; its payload is kept up to `payload_bytes`."""
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key[:MAX_KEY_BYTES] if record.key is not None else None,
        payload=record.value[:payload_bytes],
        payload_bytes=record.value_bytes,
        reason=reason,
        detail=detail,
        timestamp_ms=sent_at_ms(record),
        headers={
            name: record.headers[name][:MAX_HEADER_BYTES] for name in _KEPT_HEADERS if name in record.headers
        },
        redriven_from=_redriven_from(record),
    )


def split_damaged(records: Sequence[Record], payload_bytes: int) -> tuple[list[Record], list[DeadLetter]]:
    """The records that could be read, and a dead letter for each damaged one."""
    dead_letters = [
        dead_letter(record, record.damage, record.detail, payload_bytes)
        for record in records
        if record.damage is not None
    ]
    return [record for record in records if record.damage is None], dead_letters


def _redriven_from(record: Record) -> str | None:
    origin = record.headers.get(HEADER_REDRIVEN)
    return None if not origin else origin[:MAX_HEADER_BYTES].decode("ascii", "replace")
