"""Commits a chunk atomically: its results, its dead letters and its positions, or none of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import TransactionRollbackError

from fraud_adapters.postgres.dead_letters import DeadLetter, store_dead_letters
from fraud_adapters.postgres.offsets import move_offset
from fraud_streaming.consume.chunk import Chunk
from fraud_streaming.consume.flood import FloodGuard
from fraud_streaming.consume.processor import ChunkOutcome, PreparedT, RecordProcessor
from fraud_streaming.dead_letters.topic import DeadLetterTopic

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

ATTEMPTS: Final = 3  # of a transaction that was rolled back because of a deadlock


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed chunk, its outcome, and the time of its commit (milliseconds since 1970).

    `seconds` is the time from reading the chunk to its commit.
    """

    chunk: Chunk
    outcome: ChunkOutcome
    dead_letters: Sequence[DeadLetter]
    at_ms: int
    seconds: float

    def latencies_ms(self) -> NDArray[np.int64]:
        """[n] from each record's timestamp to the commit."""
        return self.at_ms - np.array([record.timestamp_ms for record in self.chunk.records], dtype=np.int64)


class Committer(Generic[PreparedT]):
    """Commits one topic's chunks over one connection, from one thread."""

    def __init__(
        self,
        *,
        conn: Connection,
        topic: str,
        topic_id: str,
        processor: RecordProcessor[PreparedT],
        dead_letter_topic: DeadLetterTopic,
        guard: FloodGuard,
    ) -> None:
        self._conn = conn
        self._topic = topic
        self._topic_id = topic_id
        self._processor = processor
        self._dead_letter_topic = dead_letter_topic
        self._guard = guard

    def commit(self, chunk: Chunk, prepared: PreparedT, dead_letters: Sequence[DeadLetter]) -> Committed:
        """Store a chunk and move the positions past it; records that were stored before are not stored again.

        Raises:
            OffsetMoved: another consumer has moved the position; nothing was stored.
            PoisonFlood: too many records are bad; nothing was stored.
            KafkaFailure: the dead-letter topic did not accept a record; nothing was stored.
            psycopg2.Error: the chunk may or may not be stored; the stored position tells.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._conn, self._conn.cursor() as cur:
                    outcome, bad = self._write(cur, chunk, prepared, dead_letters)
                break
            except TransactionRollbackError:
                if attempt == ATTEMPTS:
                    raise
        return Committed(chunk, outcome, bad, time.time_ns() // 1_000_000, time.monotonic() - chunk.read_at)

    def _write(
        self, cur: Cursor, chunk: Chunk, prepared: PreparedT, dead_letters: Sequence[DeadLetter]
    ) -> tuple[ChunkOutcome, list[DeadLetter]]:
        outcome = self._processor.store(cur, prepared)
        bad = sorted(
            [*dead_letters, *outcome.dead_letters], key=lambda letter: (letter.partition, letter.offset)
        )
        self._guard.admit(chunk.records, bad)
        self._dead_letter_topic.publish(bad)
        store_dead_letters(cur, bad, self._topic_id)
        for partition, (expected, new) in sorted(chunk.moves.items()):
            move_offset(cur, self._topic, partition, self._topic_id, expected, new)
        return outcome, bad
