"""The batches of a fetch and their end offsets, including those of corrupt batches.

Kafka's format, version 2: https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from crc32c import crc32c

_FRAME: Final = struct.Struct(">qi")  # offset and length, in front of a batch of any version
_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
_MAGIC_AT: Final = 16
_CRC_FROM: Final = 21
_APPEND_TIME: Final = 0x08
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_INT64: Final = 1 << 63
NO_TIME: Final = -1


class BatchEndUnknown(Exception):
    """A batch cannot be read and the offset of the next one is unknown; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class RawBatch:
    """An unchecked batch; `next_base` is the offset of the following batch if the fetch contains one."""

    data: memoryview
    base: int
    next_base: int | None

    @property
    def magic(self) -> int:
        return self.data[_MAGIC_AT]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of version 2 whose header and checksum are valid."""

    data: memoryview
    base: int
    epoch: int
    attributes: int
    last: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    count: int

    @property
    def codec(self) -> int:
        return self.attributes & 0x07

    @property
    def content(self) -> memoryview:
        """The records, still compressed."""
        return self.data[_HEAD.size :]

    @property
    def control(self) -> bool:
        """Whether it is a transaction marker, which holds no record."""
        return bool(self.attributes & _CONTROL)

    @property
    def transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    def timestamp(self, delta: int) -> int:
        if self.attributes & _APPEND_TIME:
            return self.max_timestamp
        moment = self.first_timestamp + delta
        return moment if -_INT64 <= moment < _INT64 else NO_TIME


def raw_batches(data: memoryview) -> Iterator[RawBatch]:
    """The complete batches of a fetch; brokers may truncate the last one.

    Raises:
        BatchEndUnknown: a batch has an impossible length.
    """
    pos = 0
    frame = _frame(data, pos)
    while frame is not None:
        base, end = frame
        if end - pos <= _MAGIC_AT:
            raise BatchEndUnknown("the length of the batch is impossible")
        frame = _frame(data, end)
        yield RawBatch(data[pos:end], base, _next_base(data, end, base))
        pos = end


def _frame(data: memoryview, pos: int) -> tuple[int, int] | None:
    if len(data) - pos < _FRAME.size:
        return None
    base, length = _FRAME.unpack_from(data, pos)
    end = pos + _FRAME.size + length
    return (base, end) if end <= len(data) else None


def _next_base(data: memoryview, pos: int, base: int) -> int | None:
    if len(data) - pos < _FRAME.size:
        return None
    following: int = _FRAME.unpack_from(data, pos)[0]
    return following if following > base else None


def checked(raw: RawBatch) -> Batch | str:
    """The batch, or a description of the error in it."""
    if len(raw.data) < _HEAD.size:
        return "the batch is shorter than its header"
    if crc32c(raw.data[_CRC_FROM:]) != struct.unpack_from(">I", raw.data, _MAGIC_AT + 1)[0]:
        return "the checksum of the batch is wrong"
    head = _HEAD.unpack_from(raw.data)
    base, _, epoch, _, _, attributes, delta, first, newest, producer, _, _, count = head
    if delta < 0:
        return "the batch ends before it begins"
    return Batch(raw.data, base, epoch, attributes, base + delta, first, newest, producer, count)


def end_of(raw: RawBatch, reason: str) -> int:
    """The last offset of a batch whose header cannot be trusted.

    Raises:
        BatchEndUnknown: it follows neither from the next batch nor from two consistent fields of this one.
    """
    if raw.next_base is not None:
        return raw.next_base - 1
    if raw.magic == 2 and len(raw.data) >= _HEAD.size:
        head = _HEAD.unpack_from(raw.data)
        delta, count = head[6], head[12]
        if 0 < count == delta + 1:
            return raw.base + int(delta)
    raise BatchEndUnknown(reason)
