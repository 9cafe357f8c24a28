"""What the reader of given partitions and the member of a group share: raw records and where they stand.

"How far does the log reach" comes from the high watermark of a fetch; ListOffsets is not to be trusted
(Tansu's answers are wrong). Nothing here ever moves a position that is not in the log.
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

# How long the broker holds a fetch that finds nothing: bounds the time it takes to see an end.
FETCH_WAIT_MS = 100
CLOSE_MS = 2_000


class TopicConsumer(ABC):
    """Raw records of one topic, from positions the caller gave. Those of transactions come once committed.

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
        """Per partition that is read the offset of the record that comes next."""
        return dict(self._positions)

    def high_watermarks(self) -> dict[int, int]:
        """Per partition that is read the end of the log at the latest fetch; absent before the first one."""
        marks = {p: self._consumer.highwater(self._at(p)) for p in self._positions}
        return {partition: mark for partition, mark in marks.items() if mark is not None}

    def readable_ends(self) -> dict[int, int]:
        """As `high_watermarks`, but no further than a transaction that is still open lets us read."""
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
            found = self._consumer.poll(timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise self._out_of_range(error.args[0] if error.args else {}) from error
        except (KafkaError, AssertionError) as error:
            raise self._unreadable(error) from error
        self._follow_positions()
        if not found:
            self._refuse_offsets_past_the_end()
            for partition in self._positions:
                self._internals.refuse_silence(self._at(partition))
        return [record for records in found.values() for record in records]

    def _follow_positions(self) -> None:
        # Not the last record's offset + 1: transaction markers and aborted records take offsets, too.
        for partition in self._positions:
            position = self._internals.position(self._at(partition))
            if position is not None:
                self._positions[partition] = position

    def _earliest(self, partitions: Iterable[int], timeout_ms: int) -> dict[int, int]:
        try:
            found = self._consumer.beginning_offsets([self._at(p) for p in partitions], timeout_ms=timeout_ms)
        except KafkaError as error:
            raise self._unreadable(error) from error
        return {place.partition: offset for place, offset in found.items()}

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
        return ReadError(f"The topic {self._topic} cannot be read: {one_line(error)}.")


def one_line(error: BaseException) -> str:
    """What the library says, as the end of a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
