"""The loop of a bounded run: read, prepare, decide, store, commit, in this order, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Generic, Protocol

from fraud_adapters.kafka import KafkaFailure, Record
from fraud_streaming.consume.chunk import Chunk, Positions
from fraud_streaming.consume.commit import Committer
from fraud_streaming.consume.pipeline import AHEAD, Pipeline
from fraud_streaming.consume.report import Report
from fraud_streaming.consume.work import PreparedT, Work

# A chunk ends early where its records are large: a hundred of ten megabytes each would be a gigabyte.
CHUNK_BYTES: Final = 16_000_000
POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a run ends, besides at the end of the topic."""

    chunk_records: int
    seconds: float
    records: int | None = None


class Reader(Protocol):
    """Whoever reads assigned partitions: `PartitionReader`."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]: ...

    def drained(self) -> bool: ...

    def positions(self) -> dict[int, int]: ...

    def high_watermarks(self) -> dict[int, int]: ...


class Pump(Generic[PreparedT]):
    """Runs one topic's work from the stored positions on.

    `report` counts what is committed and `committed` holds the positions reached, also when `run` raises.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        stored: dict[int, int | None],
        work: Work[PreparedT],
        committer: Committer[PreparedT],
        limits: Limits,
    ) -> None:
        self._reader = reader
        self._stored = stored
        self._positions = Positions(stored)
        self._work = work
        self._committer = committer
        self._limits = limits
        self.committed: dict[int, int] = {}
        self.report = Report()

    def run(self) -> Report:
        """Process until the topic is drained or a limit is reached.

        Raises:
            Exception: what reading, deciding or storing raised first; chunks before are committed, that
                one and all after it are not.
        """
        started = time.monotonic()
        pipeline = Pipeline(self._work, self._committer)
        try:
            try:
                for chunk in self._chunks(started + self._limits.seconds):
                    pipeline.submit(chunk)
                    self._take(pipeline, below=AHEAD)
            except KafkaFailure:
                self._take(pipeline, below=1)  # what was read before it is stored
                raise
            self._take(pipeline, below=1)
        finally:
            pipeline.close()
            self._count(pipeline)
            self.report.seconds = time.monotonic() - started
            self.report.lag = self._lag()
        return self.report

    def _take(self, pipeline: Pipeline[PreparedT], below: int) -> None:
        pipeline.wait(below)
        self._count(pipeline)
        pipeline.raise_failure()

    def _count(self, pipeline: Pipeline[PreparedT]) -> None:
        for done in pipeline.finished():
            self.committed.update({partition: new for partition, (_, new) in done.chunk.moves.items()})
            self.report.committed(done)

    def _chunks(self, deadline: float) -> Iterator[Chunk]:
        left = self._limits.records
        while time.monotonic() < deadline and left != 0:
            size = self._limits.chunk_records if left is None else min(self._limits.chunk_records, left)
            records = self._collect(size, deadline)
            if records:
                left = None if left is None else left - len(records)
                yield self._positions.chunk(records, self._reader.positions())
            elif self._reader.drained():
                break
        if self._positions.behind(reached := self._reader.positions()):
            # Transaction markers and aborted records: the next run need not read them again.
            yield self._positions.chunk([], reached)

    def _collect(self, size: int, deadline: float) -> list[Record]:
        records: list[Record] = []
        total = 0
        while len(records) < size and total < CHUNK_BYTES:
            patience = min(POLL_SECONDS, max(0.0, deadline - time.monotonic()))
            try:
                found = self._reader.poll(size - len(records), patience)
            except KafkaFailure:
                if not records:
                    raise
                break  # what was read before is stored first; the next poll says it again
            records += found
            total += sum(len(record.value) for record in found)
            if not found or self._reader.drained():
                break
        return records

    def _lag(self) -> int | None:
        marks = self._reader.high_watermarks()
        reached = {p: self.committed.get(p, at or 0) for p, at in self._stored.items()}
        if not set(reached) <= set(marks):
            return None
        return sum(max(0, marks[partition] - at) for partition, at in reached.items())
