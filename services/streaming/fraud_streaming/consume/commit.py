"""The one way a chunk is committed: what it became, its dead letters and its position, or none of them."""

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
from fraud_streaming.consume.work import Outcome, PreparedT, Work
from fraud_streaming.dead_letters.topic import DeadLetterTopic

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

ATTEMPTS: Final = 3  # of a transaction that lost a deadlock


@dataclass(frozen=True, slots=True)
class Committed:
    """A chunk that is in the database, what became of it, and since when (milliseconds since 1970).

    `seconds` is from when it was read to its commit.
    """

    chunk: Chunk
    outcome: Outcome
    letters: Sequence[DeadLetter]
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
        work: Work[PreparedT],
        dead_letters: DeadLetterTopic,
        guard: FloodGuard,
    ) -> None:
        self._conn = conn
        self._topic = topic
        self._topic_id = topic_id
        self._work = work
        self._dead_letters = dead_letters
        self._guard = guard

    def commit(self, chunk: Chunk, prepared: PreparedT, letters: Sequence[DeadLetter]) -> Committed:
        """Store a chunk and move the position past it; what was stored before is not stored again.

        Raises:
            OffsetMoved: somebody else has moved the position; nothing was stored.
            PoisonFlood: too many records are bad; nothing was stored.
            KafkaFailure: the dead-letter topic did not take a record; nothing was stored.
            psycopg2.Error: it may or may not be stored, and the position says which.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._conn, self._conn.cursor() as cur:
                    outcome, bad = self._write(cur, chunk, prepared, letters)
                break
            except TransactionRollbackError:
                if attempt == ATTEMPTS:
                    raise
        return Committed(chunk, outcome, bad, time.time_ns() // 1_000_000, time.monotonic() - chunk.read_at)

    def _write(
        self, cur: Cursor, chunk: Chunk, prepared: PreparedT, letters: Sequence[DeadLetter]
    ) -> tuple[Outcome, list[DeadLetter]]:
        outcome = self._work.store(cur, prepared)
        bad = sorted([*letters, *outcome.letters], key=lambda letter: (letter.partition, letter.offset))
        self._guard.admit(chunk.records, bad)
        self._dead_letters.publish(bad)
        store_dead_letters(cur, bad, self._topic_id)
        for partition, (expected, new) in sorted(chunk.moves.items()):
            move_offset(cur, self._topic, partition, self._topic_id, expected, new)
        return outcome, bad
