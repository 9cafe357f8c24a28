"""Batches of every kind, from real brokers: by an independent client, by hand, and patched into the log."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from fraud_adapters.kafka import PartitionReader, PositionUnreadable, Record, ensure_topics
from fraud_embedded.processes.process import StartFailed
from fraud_embedded.servers.stack import Stack
from tests.integration.test_kafka import read_all
from tests.support import apache_kafka as apache
from tests.support.kafka_server import KafkaServer
from tests.support.kafka_wire import WireBatch, WireRecord, legacy, overwrite, placeholder, produce

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


@pytest.fixture
def topic(any_kafka: KafkaServer) -> str:
    return new_topic(any_kafka.bootstrap)


def new_topic(bootstrap: str) -> str:
    name = f"batches-{uuid.uuid4().hex[:12]}"
    ensure_topics(bootstrap, [name])
    return name


def everything(bootstrap: str, topic: str, start: int = 0) -> list[Record]:
    with PartitionReader(bootstrap, topic, client_id="test") as reader:
        reader.assign({0: start})
        return read_all(reader)


def values(records: Sequence[Record]) -> list[object]:
    return [
        record.value if record.damage is None else (str(record.damage), record.offset) for record in records
    ]


def send(bootstrap: str, topic: str, *sent: bytes, **settings: Any) -> None:
    producer: Any = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, **settings})
    for value in sent:
        producer.produce(topic, value, b"k")
    assert producer.flush(20) == 0


@pytest.mark.parametrize("codec", CODECS)
def test_what_librdkafka_packs_is_read(any_kafka: KafkaServer, topic: str, codec: str) -> None:
    sent = [b"%d " % number * 100 for number in range(500)]
    send(any_kafka.bootstrap, topic, *sent, **{"compression.codec": codec})
    assert values(everything(any_kafka.bootstrap, topic)) == sent
    assert values(everything(any_kafka.bootstrap, topic, 123)) == sent[123:]


@pytest.fixture(scope="module")
def console_producer() -> list[str]:
    """Kafka's own `kafka-console-producer`."""
    try:
        java, jars = apache.find_java(), apache.fetch_jars()
    except StartFailed as error:
        pytest.skip(str(error))
    return [
        str(java),
        *apache.SHORT_LIVED,
        "-Xmx96m",
        "-XX:+UseSerialGC",
        "-cp",
        f"{jars}/*",
        "org.apache.kafka.tools.ConsoleProducer",
    ]


def test_what_kafkas_own_console_sends_is_read(any_kafka: KafkaServer, console_producer: list[str]) -> None:
    sent = [b"%d " % number * 100 for number in range(500)]
    with_headers = ("--reader-property", "parse.headers=true", "--compression-codec")
    for codec in ("snappy", "lz4", "zstd"):
        topic = new_topic(any_kafka.bootstrap)
        address = ("--bootstrap-server", any_kafka.bootstrap, "--topic", topic)
        subprocess.run(
            [*console_producer, *address, *with_headers, codec],
            input=b"".join(b"schema:creditcard/1\t%b\n" % value for value in sent),
            check=True,
            timeout=60,
        )
        records = everything(any_kafka.bootstrap, topic)
        assert values(records) == sent, codec
        assert {record.headers["schema"] for record in records} == {b"creditcard/1"}


@pytest.mark.parametrize("codec", ["xerial", "zstd-sized"])
def test_what_other_clients_pack_is_read(any_kafka: KafkaServer, topic: str, codec: str) -> None:
    records = [WireRecord(b"%d " % number * 100) for number in range(500)]
    assert produce(any_kafka.bootstrap, topic, WireBatch(records, codec).packed()) == 0
    assert values(everything(any_kafka.bootstrap, topic)) == [record.value for record in records]


def test_a_header_that_is_no_text_spoils_its_record_alone(any_kafka: KafkaServer, topic: str) -> None:
    undecodable = WireRecord(
        b"2", headers=[(b"\xff\xfea", b"x"), (b"null", None), (b"a", b"1"), (b"a", b"\xff")]
    )
    batch = WireBatch([WireRecord(b"1"), undecodable, WireRecord(b"3", None)])
    assert produce(any_kafka.bootstrap, topic, batch.packed()) == 0
    records = everything(any_kafka.bootstrap, topic)
    assert values(records) == [b"1", ("bad_header", 1), b"3"]
    assert (records[1].headers["null"], records[1].headers["a"], records[2].key) == (b"", b"\xff", None)


@pytest.fixture
def log(stack: Stack, apache_kafka: KafkaServer) -> Path:
    return stack.broker.place.with_name("apache") / "log"


THREE = [WireRecord(b"1"), WireRecord(b"2"), WireRecord(b"3")]
PATCHED = {
    "checksum": WireBatch([WireRecord(b"x" * 60)], crc=1).packed(),
    "unknown codec": WireBatch([WireRecord(b"x" * 60)], attributes=6).packed(),
    **{
        f"no {codec}": WireBatch(THREE[:1], codec, content=b"\x82SNAPPY\0 no such thing").packed()
        for codec in ("gzip", "snappy", "lz4", "zstd")
    },
    "no offset": WireBatch([WireRecord(b"", raw=b"\0" + b"\xff" * 30)]).packed(),
    "old, checksum": legacy(b"x" * 60, 1)[:-1] + b"y",
}


@pytest.mark.parametrize("bad", PATCHED.values(), ids=PATCHED)
def test_a_batch_broken_in_the_log_is_one_record(apache_kafka: KafkaServer, log: Path, bad: bytes) -> None:
    topic = new_topic(apache_kafka.bootstrap)
    send(apache_kafka.bootstrap, topic, b"before")
    assert produce(apache_kafka.bootstrap, topic, placeholder(len(bad))) == 0
    send(apache_kafka.bootstrap, topic, b"after")
    overwrite(log, topic, bad)
    assert values(everything(apache_kafka.bootstrap, topic)) == [b"before", ("unreadable", 1), b"after"]


@pytest.mark.parametrize("magic", [0, 1])
def test_messages_of_an_old_log_are_read(apache_kafka: KafkaServer, log: Path, magic: int) -> None:
    topic = new_topic(apache_kafka.bootstrap)
    old = legacy(b"old" * 30, magic)
    assert produce(apache_kafka.bootstrap, topic, placeholder(len(old))) == 0
    send(apache_kafka.bootstrap, topic, b"after")
    overwrite(log, topic, old)
    assert values(everything(apache_kafka.bootstrap, topic)) == [b"old" * 30, b"after"]


def test_where_skipping_would_be_a_guess_reading_stops_there(apache_kafka: KafkaServer, log: Path) -> None:
    topic = new_topic(apache_kafka.bootstrap)
    bad = WireBatch([WireRecord(b"x" * 60)], crc=1, count=9).packed()
    send(apache_kafka.bootstrap, topic, b"before")
    assert produce(apache_kafka.bootstrap, topic, placeholder(len(bad))) == 0
    overwrite(log, topic, bad)
    with PartitionReader(apache_kafka.bootstrap, topic, client_id="test") as reader:
        reader.assign({0: 0})
        assert values(reader.poll(10, 5)) == [b"before"]
        for _ in range(2):
            with pytest.raises(PositionUnreadable, match=f"{topic} .*offset 1 of partition 0: the checksum"):
                reader.poll(10, 5)
        assert reader.positions() == {0: 1}


def test_a_broker_that_keeps_silent_about_what_it_holds_is_named(kafka_bootstrap: str) -> None:
    """Tansu refuses a codec it does not know, and keeps the batch all the same."""
    topic = new_topic(kafka_bootstrap)
    assert produce(kafka_bootstrap, topic, WireBatch(THREE, attributes=6).packed()) != 0
    with (
        PartitionReader(kafka_bootstrap, topic, client_id="test") as reader,
        pytest.raises(PositionUnreadable, match="offset 0 of partition 0: the broker returns no records"),
    ):
        reader.assign({0: 0})
        read_all(reader)


@pytest.fixture
def transactional(apache_kafka: KafkaServer) -> Iterator[Any]:
    producer: Any = confluent_kafka.Producer(
        {"bootstrap.servers": apache_kafka.bootstrap, "transactional.id": uuid.uuid4().hex}
    )
    producer.init_transactions(20)
    yield producer


def begin(producer: Any, topic: str, *sent: bytes) -> None:
    producer.begin_transaction()
    for value in sent:
        producer.produce(topic, value, b"k")
    assert producer.flush(20) == 0


def test_only_what_was_committed_is_read(apache_kafka: KafkaServer, transactional: Any) -> None:
    topic = new_topic(apache_kafka.bootstrap)
    begin(transactional, topic, *[b"never"] * 5)
    transactional.abort_transaction(20)
    begin(transactional, topic, b"kept")
    transactional.commit_transaction(20)
    send(apache_kafka.bootstrap, topic, b"plain")
    begin(transactional, topic, b"never")
    transactional.abort_transaction(20)
    with PartitionReader(apache_kafka.bootstrap, topic, client_id="test") as reader:
        reader.assign({0: 0})
        assert values(read_all(reader)) == [b"kept", b"plain"]
        # Markers and aborted records are gaps: nothing is left.
        assert (reader.positions(), reader.lag()) == ({0: 11}, 0)


def test_an_open_transaction_holds_nobody_up(apache_kafka: KafkaServer, transactional: Any) -> None:
    topic = new_topic(apache_kafka.bootstrap)
    send(apache_kafka.bootstrap, topic, b"before")
    begin(transactional, topic, b"1", b"2")
    send(apache_kafka.bootstrap, topic, b"behind it")
    with PartitionReader(apache_kafka.bootstrap, topic, client_id="test") as reader:
        reader.assign({0: 0})
        started = time.monotonic()
        assert values(read_all(reader)) == [b"before"]
        assert time.monotonic() - started < 5, "it does not wait for a producer"
        assert (reader.positions(), reader.lag(), reader.high_watermarks()) == ({0: 1}, 3, {0: 4})
        transactional.commit_transaction(20)
        records: list[Record] = []
        while len(records) < 3:
            records += reader.poll(10, 5)
        assert values(records) == [b"1", b"2", b"behind it"]
