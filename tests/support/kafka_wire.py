"""Record batches built byte by byte, for malformed data that client libraries do not send."""

from __future__ import annotations

import gzip
import io
import socket
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cramjam
import lz4.frame
import zstandard
from crc32c import crc32c

from tests.support.waiting import eventually

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "xerial": 2, "lz4": 3, "zstd": 4, "zstd-sized": 4}
HEAD_BYTES = 61
NO_LEADER_YET = (3, 5, 6)  # returned while a new topic is being set up
# A broker starts a new segment if timestamps are far apart.
NOW_MS = int(time.time() * 1000)


def varint(number: int) -> bytes:
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest > 0x7F:
        out.append(0x80 | rest & 0x7F)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def sized(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


@dataclass
class WireRecord:
    """A record of version 2; `raw` replaces everything after the length."""

    value: bytes | None
    key: bytes | None = b"k"
    headers: Sequence[tuple[bytes | None, bytes | None]] = ()
    time_delta: int = 0
    raw: bytes | None = None

    def packed(self, offset_delta: int) -> bytes:
        body = self.raw
        if body is None:
            body = b"\x00" + varint(self.time_delta) + varint(offset_delta) + sized(self.key)
            body += sized(self.value) + varint(len(self.headers))
            body += b"".join(sized(name) + sized(value) for name, value in self.headers)
        return varint(len(body)) + body


@dataclass
class WireBatch:
    """A batch of version 2; fields that are None get their correct value."""

    records: Sequence[WireRecord]
    codec: str = "none"
    attributes: int | None = None
    crc: int | None = None
    count: int | None = None
    last_delta: int | None = None
    content: bytes | None = None  # already packed
    timestamp_ms: int = NOW_MS
    magic: int = 2
    extra: bytes = field(default=b"")  # appended to the records before they are packed

    def packed(self, base: int = 0) -> bytes:
        content = self.content
        if content is None:
            records = b"".join(one.packed(number) for number, one in enumerate(self.records))
            content = compressed(self.codec, records + self.extra)
        attributes = CODECS[self.codec] if self.attributes is None else self.attributes
        delta = len(self.records) - 1 if self.last_delta is None else self.last_delta
        count = len(self.records) if self.count is None else self.count
        times = (self.timestamp_ms, self.timestamp_ms)
        checked = struct.pack(">hiqqqhii", attributes, delta, *times, -1, -1, -1, count) + content
        crc = crc32c(checked) if self.crc is None else self.crc
        return struct.pack(">qiibI", base, 9 + len(checked), 0, self.magic, crc) + checked


def compressed(codec: str, data: bytes) -> bytes:
    if codec == "gzip":
        return gzip.compress(data, 6)
    if codec == "snappy":
        return bytes(cramjam.snappy.compress_raw(data))
    if codec == "xerial":
        return _xerial(data)
    if codec == "lz4":
        return bytes(lz4.frame.compress(data, block_linked=False))  # brokers accept no other value
    if codec in {"zstd", "zstd-sized"}:
        return zstandard.ZstdCompressor(write_content_size=codec == "zstd-sized").compress(data)
    return data


def _xerial(data: bytes) -> bytes:
    out = io.BytesIO()
    out.write(b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1))
    for at in range(0, len(data), 32768):
        block = bytes(cramjam.snappy.compress_raw(data[at : at + 32768]))
        out.write(struct.pack(">i", len(block)) + block)
    return out.getvalue()


def legacy(
    value: bytes | None, magic: int, offset: int = 0, attributes: int = 0, key: bytes | None = b"k"
) -> bytes:
    """A message of version 0 or 1."""
    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", NOW_MS) if magic else b"")
    for part in (key, value):
        body += struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", offset, len(message)) + message


def produce(bootstrap: str, topic: str, batch: bytes, partition: int = 0) -> int:
    """Send the bytes unchanged; returns the broker's error code, 0 if they were accepted."""
    codes: list[int] = []

    def answered() -> bool:
        codes.append(_produce(bootstrap, topic, batch, partition))
        return codes[-1] not in NO_LEADER_YET

    assert eventually(answered), f"{topic} has no leader"
    return codes[-1]


def _produce(bootstrap: str, topic: str, batch: bytes, partition: int) -> int:
    host, port = bootstrap.split(":")

    def text(value: str) -> bytes:
        return struct.pack(">h", len(value)) + value.encode()

    body = struct.pack(">hhi", 0, 7, 1) + text("wire") + struct.pack(">hhi", -1, -1, 10_000)
    body += struct.pack(">i", 1) + text(topic) + struct.pack(">iii", 1, partition, len(batch)) + batch
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        answer = connection.makefile("rb")
        (size,) = struct.unpack(">i", answer.read(4))
        data = answer.read(size)
    at = 4 + 4 + 2 + len(topic) + 4 + 4
    error: int = struct.unpack_from(">h", data, at)[0]
    return error


def placeholder(size: int) -> bytes:
    """A batch of one record that occupies this many bytes in the log, to be overwritten there."""
    for content in range(max(0, size - HEAD_BYTES - 24), size):
        batch = WireBatch([WireRecord(b"\xa5" * content, key=None)]).packed()
        if len(batch) == size:
            return batch
    raise ValueError(f"no batch takes {size} bytes")


def overwrite(log: Path, topic: str, batch: bytes, partition: int = 0) -> None:
    """Overwrite the last placeholder of the batch's size in a broker's log with the batch."""
    (segment,) = (log / f"{topic}-{partition}").glob("*.log")
    mark = placeholder(len(batch))[HEAD_BYTES + 8 :]
    content = segment.read_bytes()
    start = content.rindex(mark) - HEAD_BYTES - 8
    with segment.open("r+b") as file:
        # Keep the offset that the broker assigned.
        file.seek(start + 8)
        file.write(batch[8:])
