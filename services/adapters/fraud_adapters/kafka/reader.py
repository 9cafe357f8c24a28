"""Reads partitions and offsets that the caller assigns.

It uses no consumer group and commits nothing, because the positions are in the database.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from kafka.errors import KafkaError

from fraud_adapters.kafka.consumer import TopicConsumer
from fraud_adapters.kafka.errors import BOOTSTRAP_TIMEOUT_MS, PositionUnreadable, ReadError, topics_missing
from fraud_adapters.kafka.record import KEEP_BYTES, Record

POLL_SLICE_MS = 150


class PartitionReader(TopicConsumer):
    """Reads raw records of one topic.

    Args:
        keep_bytes: how much of a record's value is kept.

    Raises:
        BrokerUnavailable: no broker answered.
    """

    def __init__(
        self, bootstrap: str | Sequence[str], topic: str, client_id: str, keep_bytes: int = KEEP_BYTES
    ) -> None:
        super().__init__(bootstrap, topic, client_id, keep_bytes=keep_bytes, group_id=None)

    def partitions(self) -> list[int]:
        """The topic's partition numbers, ascending.

        Raises:
            TopicMissing: the topic does not exist.
        """
        try:
            numbers = self._consumer.partitions_for_topic(self._topic)
        except KafkaError as error:
            raise self._read_error(error) from error
        if not numbers:
            raise topics_missing([self._topic])
        return sorted(numbers)

    def earliest_offsets(self) -> dict[int, int]:
        """Per partition the oldest offset still in the log: where to start when none is stored.

        Raises:
            TopicMissing: the topic does not exist.
        """
        return self._earliest(self.partitions(), BOOTSTRAP_TIMEOUT_MS)

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read exactly these partitions, each from the offset given (0 when none is stored)."""
        self._positions = dict(offsets)
        self._consumer.assign([])  # forget the old watermarks
        self._internals.reset()
        self._consumer.assign([self._at(partition) for partition in offsets])
        for partition, offset in offsets.items():
            self._consumer.seek(self._at(partition), offset)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records, in order within a partition.

        Returns early, without records, once a fetch has shown that every partition is at its end; a loop that
        follows the log therefore waits at most about 0.2 s.

        Raises:
            ReadError: an offset is no longer, or not yet, in the log.
            PositionUnreadable: the data at a position cannot be read and cannot be skipped safely.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            remaining_ms = max(0, int((deadline - time.monotonic()) * 1000))
            records = self._poll(max_records, min(remaining_ms, POLL_SLICE_MS))
            if records or remaining_ms == 0 or self.drained():
                return records

    def lag(self) -> int | None:
        """Records between the positions and the high watermarks; None before the first fetch."""
        marks = self.high_watermarks()
        if len(marks) < len(self._positions):
            return None
        return sum(max(0, mark - self._positions[partition]) for partition, mark in marks.items())

    def ends(self, offsets: Mapping[int, int], timeout_s: float) -> dict[int, int]:
        """Per partition the end of the log; assigns the partitions at the given offsets and fetches once.

        A partition without an answer in time, or whose offset is not in the log, is left out.
        """
        deadline = time.monotonic() + timeout_s
        self.assign(offsets)
        while time.monotonic() < deadline and len(self.high_watermarks()) < len(offsets):
            try:
                self._poll(1, POLL_SLICE_MS)
            except (ReadError, PositionUnreadable):
                break  # the high watermarks of earlier fetches are known
        return self.high_watermarks()

    def record_waits(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Whether a record can be read at or after this offset; assigns the partition at the offset.

        The high watermark alone is not sufficient, because transaction markers have offsets too.
        """
        self.assign({partition: offset})
        try:
            return bool(self.poll(1, timeout_s))
        except (ReadError, PositionUnreadable):
            return False

    def drained(self) -> bool:
        """Whether every position has reached the end of the readable log, as fetches have shown it.

        Records after a transaction that is still open do not count, because they wait for a producer.
        """
        ends = self.readable_ends()
        return len(ends) == len(self._positions) and all(self._positions[p] >= end for p, end in ends.items())
