"""CPU time for decoding batches without a broker: kafka-python's decoder and ours.

./fraud bench decoding
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords

from fraud_adapters.kafka.library import FetchedRecords
from tests.support.kafka_wire import WireBatch, WireRecord

BATCHES = 60
RECORDS = 500
CODECS = ("none", "gzip", "lz4", "zstd")
AT = TopicPartition("t", 0)


def _log(codec: str) -> bytes:
    header = [(b"schema", b"creditcard/1"), (b"traceparent", b"00-" + b"a" * 52)]
    records = [WireRecord(b'{"v":%d}' % n + b"x" * 580, b"card-%d" % n, header) for n in range(RECORDS)]
    return b"".join(WireBatch(records, codec).packed(RECORDS * number) for number in range(BATCHES))


def _decode_with_adapter(data: bytes) -> Iterator[Any]:
    part = FetchedRecords(65_537, 0, AT, MemoryRecords(data))
    while part:
        yield from part.take(100)


def _decode_with_kafka_python(data: bytes) -> Iterator[Any]:
    """Decode with kafka-python, and build the same record objects as the adapter."""
    part = Fetcher.PartitionRecords(0, AT, MemoryRecords(data))
    while part:
        for raw in part.take(100):
            yield raw.value or b"", {name: value or b"" for name, value in raw.headers}


def _rate(decode: Callable[[bytes], Iterator[Any]], data: bytes) -> float:
    best = 0.0
    for _ in range(3):
        started = time.process_time()
        count = sum(1 for _ in decode(data))
        assert count == BATCHES * RECORDS
        best = max(best, count / (time.process_time() - started))
    return best


def main() -> None:
    for codec in CODECS:
        data = _log(codec)
        library = "        –"
        if codec in {"none", "gzip"}:
            library = f"{_rate(_decode_with_kafka_python, data):9,.0f}"
        own = f"{_rate(_decode_with_adapter, data):9,.0f}"
        print(f"{codec:5} kafka-python {library} ours {own} records a second")


if __name__ == "__main__":
    main()
