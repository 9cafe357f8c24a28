"""How the records of a topic are processed, independent of how they are read and committed.

The pump (`pump.py`) owns the loop, the threads, the retry and the commit; a `RecordProcessor` turns a chunk
of records into rows. A record that cannot be processed is a value, a `DeadLetter`, never an exception.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from config.constants import HEADER_REDRIVEN, HEADER_SCHEMA, HEADER_TRACEPARENT
from fraud_adapters.kafka import Record
from fraud_adapters.kafka.arrival import sent_at_ms
from fraud_adapters.postgres.dead_letters import DeadLetter

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

PreparedT = TypeVar("PreparedT")

MAX_KEY_BYTES: Final = 1024
MAX_HEADER_BYTES: Final = 256
_KEPT_HEADERS: Final = (HEADER_SCHEMA, HEADER_TRACEPARENT)


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
