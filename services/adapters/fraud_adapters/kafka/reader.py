"""Reading partitions assigned by the caller, from offsets the caller knows.

There is no consumer group here and nothing is committed: the position lives in the database.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from kafka.errors import KafkaError

from fraud_adapters.kafka.consumer import TopicConsumer
from fraud_adapters.kafka.errors import BOOTSTRAP_TIMEOUT_MS, PositionUnreadable, ReadError, missing
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
            found = self._consumer.partitions_for_topic(self._topic)
        except KafkaError as error:
            raise self._unreadable(error) from error
        if not found:
            raise missing([self._topic])
        return sorted(found)

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
        self._internals.begin()
        self._consumer.assign([self._at(partition) for partition in offsets])
        for partition, offset in offsets.items():
            self._consumer.seek(self._at(partition), offset)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records, in order within a partition.

        Returns early, with nothing, once a fetch showed that every partition is at its end; so in a
        loop that follows the log it never waits longer than about 0.2 s.

        Raises:
            ReadError: an offset is not in the log any more or not yet.
            PositionUnreadable: what lies at a position cannot be read, nor can it be skipped for sure.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            records = self._poll(max_records, min(left_ms, POLL_SLICE_MS))
            if records or left_ms == 0 or self.drained():
                return records

    def lag(self) -> int | None:
        """Records between the positions and the high watermarks; None before the first fetch."""
        marks = self.high_watermarks()
        if len(marks) < len(self._positions):
            return None
        return sum(max(0, mark - self._positions[partition]) for partition, mark in marks.items())

    def ends(self, offsets: Mapping[int, int], timeout_s: float) -> dict[int, int]:
        """Per partition the end of the log, by a fetch from the offset given; it is now read from there.

        A partition whose fetch brought none in time, or whose offset is not in the log, is left out.
        """
        deadline = time.monotonic() + timeout_s
        self.assign(offsets)
        while time.monotonic() < deadline and len(self.high_watermarks()) < len(offsets):
            try:
                self._poll(1, POLL_SLICE_MS)
            except (ReadError, PositionUnreadable):
                break  # what was fetched before has its mark
        return self.high_watermarks()

    def record_waits(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Whether a record can be read from this offset on; it is now read from there.

        The high watermark alone does not say that: transaction markers take offsets, too.
        """
        self.assign({partition: offset})
        try:
            return bool(self.poll(1, timeout_s))
        except (ReadError, PositionUnreadable):
            return False

    def drained(self) -> bool:
        """True once every position has reached what a fetch really made could read.

        Records after a transaction that is still open are none of it: whoever waits for them waits for a
        producer.
        """
        ends = self.readable_ends()
        return len(ends) == len(self._positions) and all(self._positions[p] >= end for p, end in ends.items())
