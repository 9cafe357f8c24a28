"""The base of the partition reader and the group member: raw records and positions.

The end of the log is the high watermark of a fetch, because Tansu's answers to ListOffsets are wrong. A
position that is not in the log is reported as an error and never moved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from fraud_adapters.kafka.errors import (
    BOOTSTRAP_TIMEOUT_MS,
    BrokerUnavailable,
    ReadError,
    quiet_library,
    require_broker,
    servers,
)
from fraud_adapters.kafka.library import Internals
from fraud_adapters.kafka.record import Record

# How long the broker holds an empty fetch: it bounds the time to detect the end of the log.
FETCH_WAIT_MS = 100
CLOSE_MS = 2_000


class TopicConsumer(ABC):
    """Reads raw records of one topic, from positions that the caller gives, without uncommitted ones.

    Args:
        keep_bytes: how much of a record's value is kept.

    Raises:
        BrokerUnavailable: no broker answered.
    """

    def __init__(
        self, bootstrap: str | Sequence[str], topic: str, client_id: str, *, keep_bytes: int, **settings: Any
    ) -> None:
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
                enable_auto_commit=False,  # its default loses records at a crash
                auto_offset_reset="none",  # its default skips to the end
                allow_auto_create_topics=False,
                isolation_level="read_committed",  # its default reads what was aborted
                enable_incremental_fetch_sessions=False,  # every answer names every high watermark
                fetch_max_wait_ms=FETCH_WAIT_MS,
                metrics_enabled=False,
                **settings,
            )
        except KafkaError as error:
            raise BrokerUnavailable(f"Kafka at {','.join(addresses)} does not answer: {error}.") from error
        self._internals = Internals(self._consumer, keep_bytes)

    @abstractmethod
    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` records, in order within a partition."""

    def positions(self) -> dict[int, int]:
        """Per assigned partition the offset of the next record."""
        return dict(self._positions)

    def high_watermarks(self) -> dict[int, int]:
        """Per assigned partition the end of the log at the latest fetch; absent before the first fetch."""
        marks = {p: self._consumer.highwater(self._at(p)) for p in self._positions}
        return {partition: mark for partition, mark in marks.items() if mark is not None}

    def readable_ends(self) -> dict[int, int]:
        """As `high_watermarks`, but at most up to the first transaction that is still open."""
        ends = {p: self._internals.readable_end(self._at(p)) for p in self._positions}
        return {partition: end for partition, end in ends.items() if end is not None}

    def close(self) -> None:
        """Release the connection, within a few seconds even when the broker does not answer."""
        self._consumer.close(autocommit=False, timeout_ms=CLOSE_MS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)

    def _poll(self, max_records: int, timeout_ms: int) -> list[Record]:
        try:
            polled = self._consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise self._out_of_range(error.args[0] if error.args else {}) from error
        except (KafkaError, AssertionError) as error:
            raise self._read_error(error) from error
        self._update_positions()
        if not polled:
            self._raise_past_the_end()
            for partition in self._positions:
                self._internals.raise_if_silent(self._at(partition))
        return [record for records in polled.values() for record in records]

    def _update_positions(self) -> None:
        # Not the last record's offset + 1, because transaction markers and aborted records have offsets too.
        for partition in self._positions:
            position = self._internals.position(self._at(partition))
            if position is not None:
                self._positions[partition] = position

    def _earliest(self, partitions: Iterable[int], timeout_ms: int) -> dict[int, int]:
        try:
            offsets = self._consumer.beginning_offsets(
                [self._at(p) for p in partitions], timeout_ms=timeout_ms
            )
        except KafkaError as error:
            raise self._read_error(error) from error
        return {at.partition: offset for at, offset in offsets.items()}

    def _raise_past_the_end(self) -> None:
        # Kafka answers OFFSET_OUT_OF_RANGE; Tansu keeps sending empty answers.
        beyond = {
            p: self._positions[p] for p, mark in self.high_watermarks().items() if self._positions[p] > mark
        }
        if beyond:
            raise self._out_of_range({self._at(p): offset for p, offset in beyond.items()})

    def _out_of_range(self, offsets: Mapping[TopicPartition, int]) -> ReadError:
        absent = ", ".join(f"offset {offset} of partition {at.partition}" for at, offset in offsets.items())
        return ReadError(
            f"The topic {self._topic} does not hold {absent or 'the requested offset'}: it was truncated or "
            "created again; nothing was skipped, move the stored offset by hand."
        )

    def _read_error(self, error: BaseException) -> ReadError:
        return ReadError(f"The topic {self._topic} cannot be read: {one_line(error)}.")


def one_line(error: BaseException) -> str:
    """The library's message on one line, as the end of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
