"""Messages of Kafka's format versions 0 and 1, which brokers keep in old logs.

Each message has its own checksum. A compressed message contains others: in version 1 their offsets are
relative to the first, and the offset of the outer message is that of the last.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from fraud_adapters.kafka.batches import NO_TIME, BatchEndUnknown, RawBatch, raw_batches
from fraud_adapters.kafka.codecs import CannotUnpack, unpacked
from fraud_adapters.kafka.record import Record
from fraud_adapters.kafka.records import RecordOrigin, unreadable
from fraud_adapters.kafka.source import CorruptData

_CRC_AT: Final = 12
_MAGIC_AT: Final = 16
_CODEC: Final = 0x07
_APPEND_TIME: Final = 0x08
SET_BYTES: Final = 16 << 20  # decompressed limit; brokers refuse compressed messages of more than 1 MB


class _Message(NamedTuple):
    offset: int
    attributes: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def legacy_records(raw: RawBatch, origin: RecordOrigin, start: int) -> Iterator[Record]:
    """The records of one message from the offset `start` on, or one unreadable record in their place."""
    try:
        for message in _messages(raw):
            if message.offset >= start:
                yield _record(message, origin)
    except (CorruptData, CannotUnpack, BatchEndUnknown) as error:
        # Unlike a batch of version 2, a message names only its last offset.
        if raw.base >= start:
            yield unreadable(origin, range(start, raw.base + 1), len(raw.data), str(error))


def _messages(raw: RawBatch) -> list[_Message]:
    outer = _message(raw)
    codec = outer.attributes & _CODEC
    if not codec:
        return [outer]
    inner = [_message(one) for one in raw_batches(memoryview(_unpacked(codec, outer.value or b"")))]
    if not inner:
        raise CorruptData("the message holds nothing")
    if any(one.attributes & _CODEC for one in inner):
        raise CorruptData("the message is packed twice")
    first = outer.offset - inner[-1].offset if raw.magic == 1 else 0
    stamped = outer.timestamp_ms if outer.attributes & _APPEND_TIME else None
    return [
        one._replace(offset=first + one.offset, timestamp_ms=one.timestamp_ms if stamped is None else stamped)
        for one in inner
    ]


def _unpacked(codec: int, data: bytes) -> bytes:
    content = bytearray()
    for piece in unpacked(codec, data):
        content += piece
        if len(content) > SET_BYTES:
            raise CannotUnpack(f"it unpacks to more than {SET_BYTES} bytes")
    return bytes(content)


def _message(raw: RawBatch) -> _Message:
    data = raw.data
    if zlib.crc32(data[_MAGIC_AT:]) != struct.unpack_from(">I", data, _CRC_AT)[0]:
        raise CorruptData("the checksum of the message is wrong")
    try:
        attributes = data[_MAGIC_AT + 1]
        pos = _MAGIC_AT + 2
        timestamp = NO_TIME
        if raw.magic == 1:
            (timestamp,) = struct.unpack_from(">q", data, pos)
            pos += 8
        key, pos = _bytes(data, pos)
        value, _ = _bytes(data, pos)
    except (struct.error, IndexError):
        raise CorruptData("the message is shorter than it says") from None
    return _Message(raw.base, attributes, timestamp, key, value)


def _bytes(data: memoryview, pos: int) -> tuple[bytes | None, int]:
    (size,) = struct.unpack_from(">i", data, pos)
    pos += 4
    if size < 0:
        return None, pos
    if pos + size > len(data):
        raise CorruptData("the message is shorter than it says")
    return bytes(data[pos : pos + size]), pos + size


def _record(message: _Message, origin: RecordOrigin) -> Record:
    value = message.value or b""
    return Record(
        origin.topic,
        origin.partition,
        message.offset,
        message.timestamp_ms,
        message.key,
        value[: origin.keep_bytes],
        {},
        cut_from=len(value) if len(value) > origin.keep_bytes else None,
    )
