"""Reading partitions assigned by the caller, from offsets the caller knows.

There is no consumer group here and nothing is committed: the position lives in the database. "How far
does the log reach" comes from the high watermark of a fetch; ListOffsets is not to be trusted (Tansu's
answers are wrong).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from fraud_adapters.kafka_errors import (
    BOOTSTRAP_TIMEOUT_MS,
    BrokerUnavailable,
    ReadError,
    missing,
    quiet_library,
    require_broker,
    servers,
)

# How long the broker holds a fetch that finds nothing: bounds the time it takes to see an end.
FETCH_WAIT_MS = 100
POLL_SLICE_MS = 150


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it is in the log. A null value is `b""`: neither is a transaction."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: dict[str, bytes]


class PartitionReader:
    """Reads raw records of one topic.

    Raises:
        BrokerUnavailable: no broker answered.
    """

    def __init__(self, bootstrap: str | Sequence[str], topic: str, client_id: str) -> None:
        quiet_library()
        addresses = servers(bootstrap)
        require_broker(addresses)
        self._topic = topic
        self._positions: dict[int, int] = {}
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=addresses,
                bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
                client_id=client_id,
                group_id=None,
                enable_auto_commit=False,  # its default loses records at a crash
                auto_offset_reset="none",  # its default skips to the end
                allow_auto_create_topics=False,
                enable_incremental_fetch_sessions=False,  # every answer names every high watermark
                fetch_max_wait_ms=FETCH_WAIT_MS,
                metrics_enabled=False,
            )
        except KafkaError as error:
            raise BrokerUnavailable(f"Kafka at {','.join(addresses)} does not answer: {error}.") from error

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
        at = [self._at(partition) for partition in self.partitions()]
        try:
            found = self._consumer.beginning_offsets(at, timeout_ms=BOOTSTRAP_TIMEOUT_MS)
        except KafkaError as error:
            raise self._unreadable(error) from error
        return {place.partition: offset for place, offset in found.items()}

    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read exactly these partitions, each from the offset given (0 when none is stored)."""
        self._positions = dict(offsets)
        self._consumer.assign([])  # forget the old watermarks
        self._consumer.assign([self._at(partition) for partition in offsets])
        for partition, offset in offsets.items():
            self._consumer.seek(self._at(partition), offset)

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records, in order within a partition.

        Returns early, with nothing, once a fetch showed that every partition is at its end; so in a
        loop that follows the log it never waits longer than about 0.2 s.

        Raises:
            ReadError: an offset is not in the log any more or not yet, or the records are corrupt.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            left_ms = max(0, int((deadline - time.monotonic()) * 1000))
            try:
                found = self._consumer.poll(timeout_ms=min(left_ms, POLL_SLICE_MS), max_records=max_records)
            except OffsetOutOfRangeError as error:
                raise self._out_of_range(error.args[0] if error.args else {}) from error
            except (KafkaError, AssertionError) as error:
                raise self._unreadable(error) from error
            if found:
                return self._taken(found)
            self._refuse_offsets_past_the_end()
            if left_ms == 0 or self.drained():
                return []

    def positions(self) -> dict[int, int]:
        """Per assigned partition the offset of the record that comes next."""
        return dict(self._positions)

    def high_watermarks(self) -> dict[int, int]:
        """Per assigned partition the end of the log at the latest fetch; absent before the first one."""
        marks = {p: self._consumer.highwater(self._at(p)) for p in self._positions}
        return {partition: mark for partition, mark in marks.items() if mark is not None}

    def lag(self) -> int | None:
        """Records between the positions and the high watermarks; None before the first fetch."""
        marks = self.high_watermarks()
        if len(marks) < len(self._positions):
            return None
        return sum(max(0, mark - self._positions[partition]) for partition, mark in marks.items())

    def drained(self) -> bool:
        """True once every position has reached the high watermark of a fetch really made."""
        return self.lag() == 0

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=2000)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    def _taken(self, found: Mapping[TopicPartition, list[Any]]) -> list[Record]:
        records = [
            Record(
                topic=raw.topic,
                partition=raw.partition,
                offset=raw.offset,
                timestamp_ms=raw.timestamp,
                key=raw.key,
                value=raw.value or b"",
                headers={name: value or b"" for name, value in raw.headers},
            )
            for batch in found.values()
            for raw in batch
        ]
        for at in found:
            # Not the last offset + 1: transaction markers take offsets, too.
            position = self._consumer.position(at, timeout_ms=0)
            self._positions[at.partition] = max(found[at][-1].offset + 1, position or 0)
        return records

    def _refuse_offsets_past_the_end(self) -> None:
        # Kafka answers OFFSET_OUT_OF_RANGE; Tansu answers with nothing, for ever.
        beyond = {
            p: self._positions[p] for p, mark in self.high_watermarks().items() if self._positions[p] > mark
        }
        if beyond:
            raise self._out_of_range({self._at(p): offset for p, offset in beyond.items()})

    def _out_of_range(self, offsets: Mapping[TopicPartition, int]) -> ReadError:
        places = ", ".join(f"offset {offset} of partition {at.partition}" for at, offset in offsets.items())
        return ReadError(
            f"The topic {self._topic} does not hold {places or 'the offset asked for'}: it was truncated or "
            "made again; nothing was skipped, move the stored offset by hand."
        )

    def _unreadable(self, error: BaseException) -> ReadError:
        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return ReadError(f"The topic {self._topic} cannot be read: {text}.")
