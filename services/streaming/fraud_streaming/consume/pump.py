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
from fraud_streaming.consume.processor import PreparedT, RecordProcessor
from fraud_streaming.consume.report import Report

# A chunk of large records ends early: a hundred records of ten megabytes would take a gigabyte of memory.
CHUNK_BYTES: Final = 16_000_000
POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The size of a chunk, and when a run ends before the end of the topic."""

    chunk_records: int
    seconds: float
    records: int | None = None


class Reader(Protocol):
    """Reads assigned partitions; implemented by `PartitionReader`."""

    def poll(self, max_records: int, timeout_s: float) -> list[Record]: ...

    def drained(self) -> bool: ...

    def positions(self) -> dict[int, int]: ...

    def high_watermarks(self) -> dict[int, int]: ...


class Pump(Generic[PreparedT]):
    """Processes one topic from the stored positions on.

    `report` counts the committed chunks and `committed` holds the positions reached, also after `run` raised.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        stored: dict[int, int | None],
        processor: RecordProcessor[PreparedT],
        committer: Committer[PreparedT],
        limits: RunLimits,
    ) -> None:
        self._reader = reader
        self._stored = stored
        self._positions = Positions(stored)
        self._processor = processor
        self._committer = committer
        self._limits = limits
        self.committed: dict[int, int] = {}
        self.report = Report()

    def run(self) -> Report:
        """Process until the topic is drained or a limit is reached.

        Raises:
            Exception: the first error of reading, scoring or storing; the chunks before it are committed, the
                failed one and all later ones are not.
        """
        started = time.monotonic()
        pipeline = Pipeline(self._processor, self._committer)
        try:
            try:
                for chunk in self._chunks(started + self._limits.seconds):
                    pipeline.submit(chunk)
                    self._await_committed(pipeline, below=AHEAD)
            except KafkaFailure:
                self._await_committed(pipeline, below=1)  # the records read before the failure are stored
                raise
            self._await_committed(pipeline, below=1)
        finally:
            pipeline.close()
            self._count_committed(pipeline)
            self.report.seconds = time.monotonic() - started
            self.report.lag = self._lag()
        return self.report

    def _await_committed(self, pipeline: Pipeline[PreparedT], below: int) -> None:
        pipeline.wait(below)
        self._count_committed(pipeline)
        pipeline.raise_failure()

    def _count_committed(self, pipeline: Pipeline[PreparedT]) -> None:
        for done in pipeline.finished():
            self.committed.update({partition: new for partition, (_, new) in done.chunk.moves.items()})
            self.report.committed(done)

    def _chunks(self, deadline: float) -> Iterator[Chunk]:
        remaining = self._limits.records
        while time.monotonic() < deadline and remaining != 0:
            size = (
                self._limits.chunk_records
                if remaining is None
                else min(self._limits.chunk_records, remaining)
            )
            records = self._collect(size, deadline)
            if records:
                remaining = None if remaining is None else remaining - len(records)
                yield self._positions.chunk(records, self._reader.positions())
            elif self._reader.drained():
                break
        if self._positions.behind(reached := self._reader.positions()):
            # Moves past transaction markers and aborted records, which the next run need not read again.
            yield self._positions.chunk([], reached)

    def _collect(self, size: int, deadline: float) -> list[Record]:
        records: list[Record] = []
        total = 0
        while len(records) < size and total < CHUNK_BYTES:
            patience = min(POLL_SECONDS, max(0.0, deadline - time.monotonic()))
            try:
                polled = self._reader.poll(size - len(records), patience)
            except KafkaFailure:
                if not records:
                    raise
                break  # the records read so far are stored first; the next poll raises the failure again
            records += polled
            total += sum(len(record.value) for record in polled)
            if not polled or self._reader.drained():
                break
        return records

    def _lag(self) -> int | None:
        marks = self._reader.high_watermarks()
        reached = {p: self.committed.get(p, at or 0) for p, at in self._stored.items()}
        if not set(reached) <= set(marks):
            return None
        return sum(max(0, marks[partition] - at) for partition, at in reached.items())
