"""Decodes the records of a batch with bounded memory, and skips records that cannot be read.

kafka-python's own decoder decompresses without a limit. At a batch that it cannot read it fails for good,
together with the batches before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple

from fraud_adapters.kafka.batches import NO_TIME, Batch
from fraud_adapters.kafka.codecs import CannotUnpack, unpacked
from fraud_adapters.kafka.record import Damage, Record
from fraud_adapters.kafka.source import CorruptData, Source, varint

# A record whose value is not truncated is parsed in one piece, with this much room for key and headers.
ROOM_BYTES: Final = 1 << 16


class RecordOrigin(NamedTuple):
    """The partition that the records come from, and how much of a value is kept."""

    topic: str
    partition: int
    keep_bytes: int


def unreadable(
    origin: RecordOrigin, offsets: range, size: int, reason: str, *, timestamp_ms: int = NO_TIME
) -> Record:
    """A damaged record in place of the unreadable records at these offsets; `size` is that of their batch."""
    first, last = offsets[0], offsets[-1]
    records = f"record at offset {first}" if first == last else f"records at offsets {first} to {last}"
    return Record(
        origin.topic,
        origin.partition,
        first,
        timestamp_ms,
        None,
        b"",
        {},
        cut_from=size,
        damage=Damage.UNREADABLE,
        detail=f"The {records} cannot be read: {reason}.",
        last_offset=last,
    )


def records_of(batch: Batch, origin: RecordOrigin, start: int) -> Iterator[Record]:
    """The records from the offset `start` on; if reading fails, one damaged record replaces the rest."""
    source = Source(unpacked(batch.codec, bytes(batch.content)))
    reached = batch.base - 1
    try:
        if batch.count < 0:
            raise CorruptData("the number of records is negative")
        for _ in range(batch.count):
            record = _record(source, batch, origin)
            if not reached < record.offset <= batch.last:
                raise CorruptData("the offsets are not in order")
            reached = record.offset
            if reached >= start:
                yield record
        if reached < batch.last and source.hold(1):
            raise CorruptData("there are more records than the batch says")
    except (CorruptData, CannotUnpack) as error:
        if lost := range(max(start, reached + 1), batch.last + 1):
            yield unreadable(origin, lost, len(batch.data), str(error), timestamp_ms=batch.timestamp(0))


def _record(source: Source, batch: Batch, origin: RecordOrigin) -> Record:
    limit = origin.keep_bytes + ROOM_BYTES
    source.hold(limit + 10)
    length = source.varint()
    start = source.pos
    if 0 <= length <= limit and start + length <= len(source.buffer):
        try:
            record = _parsed(source.buffer, start, start + length, batch, origin)
        except (IndexError, CorruptData, UnicodeDecodeError):
            source.pos = start  # read again by the slower path, which isolates the error
        else:
            source.pos = start + length
            return record
    return _read(source, length, batch, origin)


def _parsed(buffer: bytes, pos: int, end: int, batch: Batch, origin: RecordOrigin) -> Record:
    """A record that is valid and in memory as a whole; raises if it is not."""
    time_delta, pos = varint(buffer, pos + 1)
    offset_delta, pos = varint(buffer, pos)
    size, pos = varint(buffer, pos)
    key = None
    if size >= 0:
        key = buffer[pos : pos + size]
        pos += size
    size, pos = varint(buffer, pos)
    value = b""
    if size > 0:
        value = buffer[pos : pos + min(size, origin.keep_bytes)]
        pos += size
    count, pos = varint(buffer, pos)
    headers = {}
    for _ in range(count):
        length, pos = varint(buffer, pos)
        if length < 0:
            raise CorruptData("a header has no name")
        name = str(buffer[pos : pos + length], "utf-8")
        length, pos = varint(buffer, pos + length)
        headers[name] = buffer[pos : pos + length] if length > 0 else b""
        pos += max(0, length)
    if pos != end or count < 0:
        raise CorruptData("a record is not as long as it says")
    return Record(
        origin.topic,
        origin.partition,
        batch.base + offset_delta,
        batch.timestamp(time_delta),
        key,
        value,
        headers,
        size if size > origin.keep_bytes else None,
    )


def _read(source: Source, length: int, batch: Batch, origin: RecordOrigin) -> Record:
    """A record that is large or damaged; an error after its offset damages this record only."""
    end = source.dropped + source.pos + length
    if length < 0:
        raise CorruptData("a record has no length")
    source.take(1, 0)
    moment = batch.timestamp(source.varint())
    offset = batch.base + source.varint()
    record = Record(origin.topic, origin.partition, offset, moment, None, b"", {})
    try:
        record = _with_fields(record, source, end, origin.keep_bytes)
    except CorruptData as error:
        detail = f"The record at offset {offset} cannot be read: {error}."
        record = replace(record, cut_from=length, damage=Damage.UNREADABLE, detail=detail)
    source.move_to(end)
    return record


def _with_fields(record: Record, source: Source, end: int, keep: int) -> Record:
    def size() -> int:
        number = source.varint()
        if max(0, number) > end - source.dropped - source.pos:
            raise CorruptData("a value is longer than its record")
        return number

    key_size = size()
    key = source.take(key_size, keep) if key_size >= 0 else None
    value_size = max(0, size())
    value = source.take(value_size, keep)
    headers, bad_name = _headers(source, size)
    if source.dropped + source.pos != end:
        raise CorruptData("it is not as long as it says")
    return replace(
        record,
        key=key,
        value=value,
        headers=headers,
        cut_from=value_size if value_size > keep else None,
        damage=None if bad_name is None else Damage.BAD_HEADER,
        detail="" if bad_name is None else f"The name of a header is not UTF-8: {bad_name[:100]}.",
    )


def _headers(source: Source, size: Callable[[], int]) -> tuple[dict[str, bytes], str | None]:
    """The headers, and a name among them that is not UTF-8."""
    headers: dict[str, bytes] = {}
    bad_name = None
    room = ROOM_BYTES  # for all headers together
    count = size()  # a header takes two bytes at least
    if count < 0:
        raise CorruptData("the number of its headers is negative")
    for _ in range(count):
        name_size = size()
        if name_size < 0:
            raise CorruptData("a header has no name")
        name = source.take(name_size, room)
        content = source.take(max(0, size()), room)
        room -= name_size + len(content)
        if room <= 0:
            raise CorruptData("its headers are too large")
        shown = name.decode("utf-8", "backslashreplace")
        headers[shown] = content
        if bad_name is None and not _is_utf8(name):
            bad_name = shown
    return headers, bad_name


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
