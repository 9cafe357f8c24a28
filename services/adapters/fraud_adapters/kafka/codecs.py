"""Kafka's codecs, decompressed in pieces, because the sender determines how large a batch becomes."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import cramjam
import lz4.frame
import zstandard

PIECE_BYTES: Final = 1 << 20
# 1 MB of zstd may hold 30 GB. Beyond this limit the rest of a batch is skipped, so that it cannot block the
# stream.
BATCH_BYTES: Final = 1 << 30
# Snappy decompresses a block only as a whole. 1 MB, Kafka's limit for a batch, becomes at most 21 MB.
SNAPPY_BLOCK_BYTES: Final = 64 << 20
# The window of zstd's highest level, which bounds the memory of the decompressor.
ZSTD_WINDOW_BYTES: Final = 1 << 27
_XERIAL: Final = b"\x82SNAPPY\x00"  # Java's framing; eight bytes with its version follow
_XERIAL_HEADER_BYTES: Final = 16
_BROKEN: Final = (
    *(OSError, EOFError, RuntimeError, ValueError, zlib.error, struct.error),
    *(zstandard.ZstdError, cramjam.DecompressionError),
)


class CannotUnpack(Exception):
    """The codec is unknown, or the data is corrupt or too large; the message says which."""


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


def unpacked(codec: int, data: bytes) -> Iterator[bytes]:
    """The decompressed content of a batch in pieces of about a megabyte.

    Args:
        codec: the number in the attributes of a batch.

    Raises:
        CannotUnpack: at the first piece that cannot be decompressed.
    """
    if codec == 0:
        yield data
        return
    if codec not in _CODECS:
        raise CannotUnpack(f"the codec {codec} is unknown")
    name, pieces = _CODECS[codec]
    total = 0
    try:
        for piece in pieces(data):
            total += len(piece)
            if total > BATCH_BYTES:
                raise CannotUnpack(f"{name}: it unpacks to more than {BATCH_BYTES} bytes")
            yield piece
    except _BROKEN as error:
        text = " ".join(str(error).removeprefix(f"{name}: ").split()).rstrip(".") or type(error).__name__
        raise CannotUnpack(f"{name}: {text}") from error


def _gzip(data: bytes) -> Iterator[bytes]:
    return _read(gzip.GzipFile(fileobj=io.BytesIO(data)))


def _lz4(data: bytes) -> Iterator[bytes]:
    return _read(lz4.frame.LZ4FrameFile(io.BytesIO(data)))


def _zstd(data: bytes) -> Iterator[bytes]:
    unpacker = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    return _read(unpacker.stream_reader(data, read_across_frames=True))


def _read(reader: _Reader) -> Iterator[bytes]:
    while piece := reader.read(PIECE_BYTES):
        yield piece


def _snappy(data: bytes) -> Iterator[bytes]:
    if not data.startswith(_XERIAL):
        yield from _snappy_block(data)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if not 0 < size <= len(data) - at:
            raise CannotUnpack("snappy: a block is not as long as it says")
        yield from _snappy_block(data[at : at + size])
        at += size


def _snappy_block(data: bytes) -> Iterator[bytes]:
    size = cramjam.snappy.decompress_raw_len(data)
    if size > SNAPPY_BLOCK_BYTES:
        raise CannotUnpack(f"snappy: a block unpacks to {size} bytes, more than {SNAPPY_BLOCK_BYTES}")
    block = bytearray(size)
    if cramjam.snappy.decompress_raw_into(data, block) != size:
        raise CannotUnpack("snappy: a block is not as large as it says")
    view = memoryview(block)
    for at in range(0, size, PIECE_BYTES):
        yield bytes(view[at : at + PIECE_BYTES])


_CODECS: Final[dict[int, tuple[str, Callable[[bytes], Iterator[bytes]]]]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _lz4),
    4: ("zstd", _zstd),
}
