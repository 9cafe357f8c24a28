"""Messages of Kafka's versions 0 and 1, which brokers keep in old logs.

Each has a checksum of its own. A compressed one holds others: in version 1 their offsets count from the
first, and the offset outside is that of the last.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from fraud_adapters.kafka.batches import NO_TIME, RawBatch, Undecided, raw_batches
from fraud_adapters.kafka.codecs import CannotUnpack, unpacked
from fraud_adapters.kafka.record import Record
from fraud_adapters.kafka.records import Place, unreadable
from fraud_adapters.kafka.source import Broken

_CRC_AT: Final = 12
_MAGIC_AT: Final = 16
_CODEC: Final = 0x07
_APPEND_TIME: Final = 0x08
SET_BYTES: Final = 16 << 20  # of what a compressed message holds; brokers refuse one of more than 1 MB


class _Message(NamedTuple):
    offset: int
    attributes: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


def legacy_records(raw: RawBatch, place: Place, start: int) -> Iterator[Record]:
    """The records of one message from the offset `start` on, or one that stands for all of them."""
    try:
        for message in _messages(raw):
            if message.offset >= start:
                yield _record(message, place)
    except (Broken, CannotUnpack, Undecided) as error:
        # Unlike a batch of version 2, one says only where it ends.
        if raw.base >= start:
            yield unreadable(place, range(start, raw.base + 1), len(raw.data), str(error))


def _messages(raw: RawBatch) -> list[_Message]:
    outer = _message(raw)
    codec = outer.attributes & _CODEC
    if not codec:
        return [outer]
    inner = [_message(one) for one in raw_batches(memoryview(_unpacked(codec, outer.value or b"")))]
    if not inner:
        raise Broken("the message holds nothing")
    if any(one.attributes & _CODEC for one in inner):
        raise Broken("the message is packed twice")
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
        raise Broken("the checksum of the message is wrong")
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
        raise Broken("the message is shorter than it says") from None
    return _Message(raw.base, attributes, timestamp, key, value)


def _bytes(data: memoryview, pos: int) -> tuple[bytes | None, int]:
    (size,) = struct.unpack_from(">i", data, pos)
    pos += 4
    if size < 0:
        return None, pos
    if pos + size > len(data):
        raise Broken("the message is shorter than it says")
    return bytes(data[pos : pos + size]), pos + size


def _record(message: _Message, place: Place) -> Record:
    value = message.value or b""
    return Record(
        place.topic,
        place.partition,
        message.offset,
        message.timestamp_ms,
        message.key,
        value[: place.keep_bytes],
        {},
        cut_from=len(value) if len(value) > place.keep_bytes else None,
    )
