"""The loop: read, prepare, decide, store, commit, in this order, chunk by chunk.

Three things overlap, each in a thread of its own: the next chunk is read and parsed while one is being
decided and another stored. Commits stay in order: one writer takes the chunks one after the other, and
each moves the offset from where the chunk before left it, or not at all.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic

from psycopg2.extensions import TransactionRollbackError

from fraud_adapters.dead_letters import DeadLetter, store_dead_letters
from fraud_adapters.kafka import PartitionReader, Record
from fraud_adapters.offsets import move_offset
from fraud_streaming.claim import Claim
from fraud_streaming.dlq import DeadLetterTopic
from fraud_streaming.flood import FloodGuard
from fraud_streaming.report import Report
from fraud_streaming.work import Outcome, PreparedT, Work

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

AHEAD: Final = 3  # chunks read but not yet committed: one decided, one stored, one waiting
# A chunk ends early where its records are large: a hundred of ten megabytes each would be a gigabyte.
CHUNK_BYTES: Final = 16_000_000
POLL_SECONDS: Final = 1.0
ATTEMPTS: Final = 3  # of a transaction that lost a deadlock


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run ends, besides at the end of the topic."""

    chunk_records: int
    seconds: float
    records: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records and, per partition, from which stored position to which they move it."""

    records: list[Record]
    moves: dict[int, tuple[int | None, int]]


class Pump(Generic[PreparedT]):
    """Runs one topic's work. `report` counts what is committed, also when `run` raises."""

    def __init__(
        self,
        *,
        conn: Connection,
        reader: PartitionReader,
        claimed: Claim,
        work: Work[PreparedT],
        dead_letters: DeadLetterTopic,
        guard: FloodGuard,
        limits: Limits,
    ) -> None:
        self._conn = conn
        self._reader = reader
        self._claim = claimed
        self._positions = dict(claimed.positions)
        self._work = work
        self._dead_letters = dead_letters
        self._guard = guard
        self._limits = limits
        self._stopped = False
        self.committed: dict[int, int] = {}
        self.report = Report()

    def run(self) -> Report:
        """Process until the topic is drained or a limit is reached.

        Raises:
            PoisonFlood, or whatever reading, deciding or storing raised first; chunks before are
            committed, that one and all after it are not.
        """
        started = time.monotonic()
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, "decide") as decider, ThreadPoolExecutor(1, "store") as writer:
            try:
                for chunk in self._chunks(started + self._limits.seconds):
                    prepared, letters = self._work.prepare(chunk.records)
                    decided = decider.submit(self._unless_stopped, self._work.decide, prepared)
                    waiting.append(writer.submit(self._finish, chunk, decided, letters))
                    while len(waiting) >= AHEAD:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
            finally:
                self._stopped = True
                self.report.seconds = time.monotonic() - started
                self.report.lag = self._lag()
        return self.report

    def _chunks(self, deadline: float) -> Iterator[Chunk]:
        left = self._limits.records
        while time.monotonic() < deadline and left != 0:
            size = self._limits.chunk_records if left is None else min(self._limits.chunk_records, left)
            records = self._collect(size, deadline)
            if records:
                left = None if left is None else left - len(records)
                yield self._chunk(records)
            elif self._reader.drained():
                return

    def _collect(self, size: int, deadline: float) -> list[Record]:
        records: list[Record] = []
        total = 0
        while len(records) < size and total < CHUNK_BYTES:
            patience = min(POLL_SECONDS, max(0.0, deadline - time.monotonic()))
            found = self._reader.poll(size - len(records), patience)
            records += found
            total += sum(len(record.value) for record in found)
            if not found or self._reader.drained():
                break
        return records

    def _chunk(self, records: list[Record]) -> Chunk:
        reached = self._reader.positions()
        moves = {
            partition: (self._positions[partition], reached[partition])
            for partition in {record.partition for record in records}
        }
        self._positions.update({partition: new for partition, (_, new) in moves.items()})
        return Chunk(records, moves)

    def _finish(self, chunk: Chunk, decided: Future[PreparedT], letters: Sequence[DeadLetter]) -> None:
        try:
            self._unless_stopped(self._store, chunk, decided.result(), letters)
        except BaseException:
            self._stopped = True  # what comes after this chunk must not be decided or stored
            raise

    def _unless_stopped(self, step: Any, *arguments: Any) -> Any:
        if self._stopped:
            raise CancelledError
        return step(*arguments)

    def _store(self, chunk: Chunk, prepared: PreparedT, letters: Sequence[DeadLetter]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._conn, self._conn.cursor() as cur:
                    outcome = self._write(cur, chunk, prepared, letters)
                break
            except TransactionRollbackError:
                if attempt == ATTEMPTS:
                    raise
        self.committed.update({partition: new for partition, (_, new) in chunk.moves.items()})
        self.report.committed(
            chunk.records, outcome, [*letters, *outcome.letters], time.time_ns() // 1_000_000
        )

    def _write(
        self, cur: Cursor, chunk: Chunk, prepared: PreparedT, letters: Sequence[DeadLetter]
    ) -> Outcome:
        outcome = self._work.store(cur, prepared)
        bad = [*letters, *outcome.letters]
        self._guard.admit(chunk.records, bad)
        self._dead_letters.publish(bad)
        store_dead_letters(cur, bad)
        for partition, (expected, new) in chunk.moves.items():
            move_offset(cur, self._claim.topic, partition, self._claim.topic_id, expected, new)
        return outcome

    def _lag(self) -> int | None:
        marks = self._reader.high_watermarks()
        reached = {p: self.committed.get(p, at or 0) for p, at in self._claim.positions.items()}
        if not set(reached) <= set(marks):
            return None
        return sum(max(0, marks[partition] - at) for partition, at in reached.items())
