"""All that is used of kafka-python beyond its interface; a test names each part.

The library decodes batches without a bound and stops for good at one it cannot decode. Its `Fetcher` gets
another class for the records of a fetch, which decodes with `records.py`, and gives our `Record`s.
And it leaves a socket to the garbage collector where its connection is refused, or where the client is closed
while it connects or has something to send: Python warns of each.
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

from fraud_adapters.kafka.batches import Batch, RawBatch, Undecided, checked, end_of, raw_batches
from fraud_adapters.kafka.errors import PositionUnreadable
from fraud_adapters.kafka.legacy import legacy_records
from fraud_adapters.kafka.record import Record
from fraud_adapters.kafka.records import Place, records_of, unreadable

SILENT_SECONDS: Final = 5.0  # of empty answers, each of which the broker had some time for


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
    """The records of one partition in one fetch, decoded as they are taken.

    Records of aborted transactions and their markers are gaps. What cannot be read is one `Record` that
    says so, and reading goes on after it.

    Raises:
        PositionUnreadable: while records are taken: nothing says where reading could go on.
    """

    def __init__(self, keep_bytes: int, *args: Any, **settings: Any) -> None:
        self._keep_bytes = keep_bytes
        super().__init__(*args, **settings)

    def _unpack_records(self, at: TopicPartition, records: Any, *_deserializers: Any) -> Iterator[Record]:
        place = Place(at.topic, at.partition, self._keep_bytes)
        try:
            for raw in raw_batches(memoryview(records._buffer)):
                for record in self._decoded(raw, place):
                    self.next_fetch_offset = record.next_offset
                    yield record
                self.next_fetch_offset = max(self.next_fetch_offset, self._end)
                self.bytes_read += len(raw.data)  # by which the library takes turns between partitions
        except Undecided as error:
            self.drain()  # else the library would ask a generator that has ended for ever
            raise PositionUnreadable(at.topic, at.partition, self.next_fetch_offset, str(error)) from error
        self.drain()

    def _decoded(self, raw: RawBatch, place: Place) -> Iterator[Record]:
        start = self.next_fetch_offset
        if raw.magic < 2:
            self._end = raw.base + 1
            return legacy_records(raw, place, start)
        batch = checked(raw) if raw.magic == 2 else f"the format {raw.magic} is unknown"
        if isinstance(batch, str):
            self._end = end_of(raw, batch) + 1
            lost = range(max(start, raw.base), self._end)
            return iter([unreadable(place, lost, len(raw.data), batch)] if lost else [])
        self._end = batch.last + 1
        self.leader_epoch = batch.epoch
        return iter(()) if self._passed_over(batch) else records_of(batch, place, start)

    def _passed_over(self, batch: Batch) -> bool:
        """Whether it holds no record, or those of a transaction that was aborted."""
        while self.aborted_transactions and self.aborted_transactions[0].first_offset <= batch.last:
            self.aborted_producer_ids.add(self.aborted_transactions.popleft().producer_id)
        if batch.control:
            # However it ended: what the producer sends from here on belongs to another transaction.
            self.aborted_producer_ids.discard(batch.producer_id)
            return True
        return batch.transactional and batch.producer_id in self.aborted_producer_ids


class Internals:
    """The inner parts of one consumer.

    Args:
        keep_bytes: how much of a record's value is kept.
    """

    def __init__(self, consumer: KafkaConsumer, keep_bytes: int) -> None:
        self._fetcher = consumer._fetcher
        self._subscription = consumer._subscription
        self._parse = self._fetcher._parse_fetched_data
        self._stable: dict[TopicPartition, int] = {}
        self._silent: dict[TopicPartition, tuple[int, float]] = {}  # offset and since when
        self._fetcher.PartitionRecords = partial(FetchedRecords, keep_bytes)
        self._fetcher._parse_fetched_data = self._parsed

    def begin(self) -> None:
        """Nothing that was fetched so far counts."""
        self._stable.clear()
        self._silent.clear()

    def position(self, at: TopicPartition) -> int | None:
        """The offset that is read next, without asking the broker."""
        state = self._subscription.assignment.get(at)
        position = state.position if state is not None else None
        return None if position is None else int(position.offset)

    def readable_end(self, at: TopicPartition) -> int | None:
        """Up to where the latest fetch could read: the first offset of a transaction that is open, else the
        high watermark. None before the first one.
        """
        state = self._subscription.assignment.get(at)
        mark = state.highwater if state is not None else None
        return None if mark is None else min(mark, self._stable.get(at, mark))

    def refuse_silence(self, at: TopicPartition) -> None:
        """Raises PositionUnreadable where the broker for seconds gave nothing of what the log should hold."""
        offset, since = self._silent.get(at, (None, 0.0))
        if offset is not None and offset == self.position(at) and time.monotonic() - since > SILENT_SECONDS:
            why = f"the broker gives nothing from there, though the log reaches {self.readable_end(at)}"
            raise PositionUnreadable(at.topic, at.partition, offset, why)

    def forget(self, at: TopicPartition) -> None:
        """Drop what was fetched of a paused partition, and the mark that came with it.

        The library parks it, and while another partition is read it may never take that up again, nor fetch
        anything new of the parked one. An old mark would make an offset beyond it look as if it were not in
        the log.
        """
        self._fetcher._paused_partition_records.pop(at, None)
        self._fetcher._paused_completed_fetches.pop(at, None)
        self._subscription.assignment[at].highwater = None
        self._silent.pop(at, None)

    def _parsed(self, fetch: Any) -> Any:
        parsed = self._parse(fetch)
        if parsed is not None:
            data = fetch.partition_data
            known = data.last_stable_offset >= 0  # -1 where the broker does not say
            end = data.last_stable_offset if known else data.high_watermark
            self._stable[fetch.topic_partition] = end
            silent = not data.records and fetch.fetched_offset < end
            self._hear(fetch.topic_partition, fetch.fetched_offset, silent)
        return parsed

    def _hear(self, at: TopicPartition, offset: int, silent: bool) -> None:
        if not silent:
            self._silent.pop(at, None)
        elif self._silent.get(at, (None,))[0] != offset:
            self._silent[at] = (offset, time.monotonic())
