"""All uses of kafka-python's private parts; a test names each of them.

The library decodes batches without a memory limit and stops for good at a batch that it cannot decode. Its
`Fetcher` therefore gets another class for fetched records, which decodes with `records.py` and yields our
`Record`. The library also leaves sockets to the garbage collector if a connection is refused, or if the
client is closed while it connects or sends; Python would warn of each.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.net import KafkaNetSocket

from fraud_adapters.kafka.batches import Batch, BatchEndUnknown, RawBatch, checked, end_of, raw_batches
from fraud_adapters.kafka.errors import PositionUnreadable
from fraud_adapters.kafka.legacy import legacy_records
from fraud_adapters.kafka.record import Record
from fraud_adapters.kafka.records import RecordOrigin, records_of, unreadable

SILENT_SECONDS: Final = 5.0  # of consecutive empty answers, although the log should hold records


class CollectedSocket(socket.socket):
    """A socket that is closed without a warning when it is collected."""

    def __del__(self) -> None:
        self.close()


def _socket(
    self: KafkaNetSocket,
    family: int = socket.AF_UNSPEC,
    sock_type: int = socket.SOCK_STREAM,
    proto: int = socket.IPPROTO_TCP,
) -> socket.socket:
    return CollectedSocket(family, sock_type, proto)


KafkaNetSocket.socket = _socket


class FetchedRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """The records of one partition in one fetch, decoded lazily.

    Records of aborted transactions and transaction markers are gaps. An unreadable range becomes one damaged
    `Record`, and reading continues after it.

    Raises:
        PositionUnreadable: during iteration, if the offset of the next record is unknown.
    """

    def __init__(self, keep_bytes: int, *args: Any, **settings: Any) -> None:
        self._keep_bytes = keep_bytes
        super().__init__(*args, **settings)

    def _unpack_records(self, at: TopicPartition, records: Any, *_deserializers: Any) -> Iterator[Record]:
        origin = RecordOrigin(at.topic, at.partition, self._keep_bytes)
        try:
            for raw in raw_batches(memoryview(records._buffer)):
                for record in self._decode(raw, origin):
                    self.next_fetch_offset = record.next_offset
                    yield record
                self.next_fetch_offset = max(self.next_fetch_offset, self._end)
                self.bytes_read += len(raw.data)  # the library uses it to alternate between partitions
        except BatchEndUnknown as error:
            self.drain()  # otherwise the library would poll an exhausted generator forever
            raise PositionUnreadable(at.topic, at.partition, self.next_fetch_offset, str(error)) from error
        self.drain()

    def _decode(self, raw: RawBatch, origin: RecordOrigin) -> Iterator[Record]:
        start = self.next_fetch_offset
        if raw.magic < 2:
            self._end = raw.base + 1
            return legacy_records(raw, origin, start)
        batch = checked(raw) if raw.magic == 2 else f"the format {raw.magic} is unknown"
        if isinstance(batch, str):
            self._end = end_of(raw, batch) + 1
            lost = range(max(start, raw.base), self._end)
            return iter([unreadable(origin, lost, len(raw.data), batch)] if lost else [])
        self._end = batch.last + 1
        self.leader_epoch = batch.epoch
        return iter(()) if self._is_skipped(batch) else records_of(batch, origin, start)

    def _is_skipped(self, batch: Batch) -> bool:
        """Whether the batch is a transaction marker, or belongs to an aborted transaction."""
        while self.aborted_transactions and self.aborted_transactions[0].first_offset <= batch.last:
            self.aborted_producer_ids.add(self.aborted_transactions.popleft().producer_id)
        if batch.control:
            # The transaction has ended: later batches of the producer belong to another one.
            self.aborted_producer_ids.discard(batch.producer_id)
            return True
        return batch.transactional and batch.producer_id in self.aborted_producer_ids


class Internals:
    """The private parts of one consumer.

    Args:
        keep_bytes: how much of a record's value is kept.
    """

    def __init__(self, consumer: KafkaConsumer, keep_bytes: int) -> None:
        self._fetcher = consumer._fetcher
        self._subscription = consumer._subscription
        self._original_parse = self._fetcher._parse_fetched_data
        self._stable: dict[TopicPartition, int] = {}
        self._silent: dict[TopicPartition, tuple[int, float]] = {}  # offset and since when
        self._fetcher.PartitionRecords = partial(FetchedRecords, keep_bytes)
        self._fetcher._parse_fetched_data = self._parse_fetch

    def reset(self) -> None:
        """Forget everything that earlier fetches have shown."""
        self._stable.clear()
        self._silent.clear()

    def position(self, at: TopicPartition) -> int | None:
        """The offset that is read next, without a request to the broker."""
        state = self._subscription.assignment.get(at)
        position = state.position if state is not None else None
        return None if position is None else int(position.offset)

    def readable_end(self, at: TopicPartition) -> int | None:
        """The end of the readable log at the latest fetch, None before the first fetch.

        It is the first offset of an open transaction, or the high watermark if there is none.
        """
        state = self._subscription.assignment.get(at)
        mark = state.highwater if state is not None else None
        return None if mark is None else min(mark, self._stable.get(at, mark))

    def raise_if_silent(self, at: TopicPartition) -> None:
        """Raise PositionUnreadable if the broker has returned no records for seconds although some exist."""
        offset, since = self._silent.get(at, (None, 0.0))
        if offset is not None and offset == self.position(at) and time.monotonic() - since > SILENT_SECONDS:
            reason = f"the broker returns no records, although the log reaches {self.readable_end(at)}"
            raise PositionUnreadable(at.topic, at.partition, offset, reason)

    def forget(self, at: TopicPartition) -> None:
        """Drop the fetched records and the high watermark of a paused partition.

        The library parks such records; while another partition is read it may neither return them nor fetch
        new ones. With an outdated high watermark, an offset beyond it would seem not to be in the log.
        """
        self._fetcher._paused_partition_records.pop(at, None)
        self._fetcher._paused_completed_fetches.pop(at, None)
        self._subscription.assignment[at].highwater = None
        self._silent.pop(at, None)

    def _parse_fetch(self, fetch: Any) -> Any:
        parsed = self._original_parse(fetch)
        if parsed is not None:
            data = fetch.partition_data
            known = data.last_stable_offset >= 0  # -1 if the broker does not report it
            end = data.last_stable_offset if known else data.high_watermark
            self._stable[fetch.topic_partition] = end
            silent = not data.records and fetch.fetched_offset < end
            self._note_answer(fetch.topic_partition, fetch.fetched_offset, silent)
        return parsed

    def _note_answer(self, at: TopicPartition, offset: int, silent: bool) -> None:
        if not silent:
            self._silent.pop(at, None)
        elif self._silent.get(at, (None,))[0] != offset:
            self._silent[at] = (offset, time.monotonic())
