"""Unreadable records, met by every reader: bounded run, follower, `topics`, dead letters."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import pytest

from config.job_results.streaming import TopicState
from config.settings import DatabaseSettings
from fraud_adapters.job.failures import JobFailed
from fraud_embedded.processes.ports import free_ports
from fraud_streaming.topics import describe
from tests.integration.following import following
from tests.support.api_server import ApiServer, cloned, scoring_server
from tests.support.bombs import BOMBS, SCHEMA, bomb, peak_mib
from tests.support.kafka_server import KafkaServer
from tests.support.kafka_wire import WireBatch, WireRecord, produce
from tests.support.stored_rows import Database
from tests.support.streaming_installation import StreamInstallation, creditcard_records
from tests.support.waiting import eventually

PATIENCE = 60.0
PEAK_MIB = 400  # a job may take 512


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("unreadable-api")
    with (
        cloned(template, postgres_admin_url, "unreadable_api") as database,
        scoring_server(database, directory) as server,
    ):
        yield server


@pytest.fixture
def kafka_bootstrap(any_kafka: KafkaServer) -> str:
    return any_kafka.bootstrap


@pytest.fixture
def installation(database: Database, topics: Any, api: ApiServer) -> StreamInstallation:
    return StreamInstallation(database, topics, api.url)


def payload(identifier: str) -> bytes:
    return json.dumps(creditcard_records([identifier])[0]).encode()


def label(identifier: str) -> bytes:
    return json.dumps({"transaction_id": identifier, "label": 1, "source": "analyst"}).encode()


def put(installation: StreamInstallation, batch: WireBatch, topic: str | None = None) -> None:
    address = installation.kafka.kafka_bootstrap_servers
    assert produce(address, topic or installation.kafka.topic, batch.packed()) == 0


def put_undecodable_headers(installation: StreamInstallation) -> None:
    """On both topics a good record, one with a header whose name is not text, and a good one."""
    for topic, value in ((installation.kafka.topic, payload), (installation.kafka.labels_topic, label)):
        undecodable = WireRecord(value("strange"), headers=[SCHEMA, (b"\xff\xfea", b"x")])
        put(
            installation,
            WireBatch([WireRecord(value("before")), undecodable, WireRecord(value("after"))], "lz4"),
            topic,
        )


def stored_dead_letters(installation: StreamInstallation) -> list[tuple[Any, ...]]:
    return installation.rows(
        "SELECT topic, record_offset, reason, payload_bytes FROM dead_letters ORDER BY id"
    )


def expected_dead_letters(installation: StreamInstallation) -> list[tuple[Any, ...]]:
    return [
        (installation.kafka.topic, 1, "bad_header", len(payload("strange"))),
        (installation.kafka.labels_topic, 1, "bad_header", len(label("strange"))),
    ]


def shown(installation: StreamInstallation, only: str, peek: int) -> TopicState:
    settings = DatabaseSettings.model_validate({"database_url": installation.database.url("streaming")})
    return describe(settings, installation.kafka, peek, only)["topics"][0]


def test_a_strange_header_is_set_aside_and_its_neighbours_stored(installation: StreamInstallation) -> None:
    put_undecodable_headers(installation)
    peeked = shown(installation, "transactions", 3)["records"]
    assert [record.get("damage") for record in peeked] == [None, "bad_header", None]
    result = installation.consume()
    assert (result["dead_lettered"], result["labels"]["dead_lettered"]) == ({"bad_header": 1},) * 2
    assert (result["lag"], result["labels"]["lag"]) == (0, 0)
    assert (installation.ids(), installation.count("labels")) == ({"before", "after"}, 2)
    assert stored_dead_letters(installation) == expected_dead_letters(installation)
    listed = installation.command("dead-letters", "--reason", "bad_header")
    assert json.loads(listed.stdout)["total"] == 2
    assert {record.headers["reason"] for record in installation.dead_letter_topic()} == {b"bad_header"}
    # All of it is kept, so it can be put back, without the header.
    assert json.loads(installation.command("redrive", "--reason", "bad_header").stdout)["sent"] == 2
    assert installation.consume()["stored"] == 1
    assert installation.ids() == {"before", "strange", "after"}


def test_the_follower_sets_it_aside_too(installation: StreamInstallation) -> None:
    put_undecodable_headers(installation)
    with following(installation.installation) as follower:
        assert eventually(lambda: installation.ids() == {"before", "after"}, PATIENCE)
        assert eventually(lambda: installation.count("labels") == 2, PATIENCE)
        reason = {"reason": "bad_header"}
        assert eventually(lambda: follower.metric("fraud_stream_dead_letters_total", **reason) == 2)
        assert follower.ready()
        follower.end()
    assert sorted(stored_dead_letters(installation)) == sorted(expected_dead_letters(installation))


def test_a_batch_nobody_can_unpack_is_one_dead_letter(
    installation: StreamInstallation, any_kafka: KafkaServer
) -> None:
    """Apache Kafka takes none such; there one is patched into the log, see test_kafka_batches."""
    if "apache" in str(any_kafka.spec.cwd):
        pytest.skip("Apache Kafka refuses it")
    three = [WireRecord(b"{}")] * 3
    for topic, value in ((installation.kafka.topic, payload), (installation.kafka.labels_topic, label)):
        put(installation, WireBatch([WireRecord(value("before"))], "zstd"), topic)
        put(installation, WireBatch(three, "zstd", content=b"no such thing"), topic)
        put(installation, WireBatch([WireRecord(value("after"))], "snappy"), topic)
    assert shown(installation, "transactions", 4)["records"][1]["damage"] == "unreadable"
    result = installation.consume()
    assert (result["dead_lettered"], result["labels"]["dead_lettered"]) == ({"unreadable": 1},) * 2
    assert (installation.ids(), installation.count("labels"), result["lag"]) == ({"before", "after"}, 2, 0)
    (detail,) = installation.rows(
        "SELECT detail FROM dead_letters WHERE topic = %s", installation.kafka.topic
    )[0]
    assert detail.startswith("The records at offsets 1 to 3 cannot be read: zstd: ")
    refused = installation.command("redrive", "--reason", "unreadable", "--no-check")
    assert json.loads(refused.stdout)["refused"] == {"incomplete": 2}


def test_where_skipping_would_be_a_guess_all_before_is_stored(
    installation: StreamInstallation, any_kafka: KafkaServer
) -> None:
    if "apache" in str(any_kafka.spec.cwd):
        pytest.skip("Apache Kafka refuses it; see test_kafka_batches")
    put(installation, WireBatch([WireRecord(payload("before"))]))
    put(installation, WireBatch([WireRecord(b"{}")], magic=3))
    sentence = f"{installation.kafka.topic} stops at offset 1 of partition 0: .*set next_offset"
    with pytest.raises(JobFailed, match=sentence):
        installation.consume()
    assert installation.ids() == {"before"}
    with pytest.raises(JobFailed, match=sentence):
        shown(installation, "transactions", 5)
    installation.rows("UPDATE stream_offsets SET next_offset = 0 WHERE topic = %s", installation.kafka.topic)
    with following(installation.installation) as follower, pytest.raises(JobFailed, match=sentence):
        follower.ended()
    assert installation.rows(
        "SELECT next_offset FROM stream_offsets WHERE topic = %s", installation.kafka.topic
    ) == [(1,)]
    # The way past the record is the one that the message names.
    installation.rows("UPDATE stream_offsets SET next_offset = 2 WHERE topic = %s", installation.kafka.topic)
    put(installation, WireBatch([WireRecord(payload("after"))]))
    assert (installation.consume()["lag"], installation.ids()) == (0, {"before", "after"})


@pytest.fixture
def producer(installation: StreamInstallation, any_kafka: KafkaServer) -> Any:
    if "apache" not in str(any_kafka.spec.cwd):
        pytest.skip("Tansu shows what was aborted to every client")
    settings = {
        "bootstrap.servers": installation.kafka.kafka_bootstrap_servers,
        "transactional.id": uuid.uuid4().hex,
    }
    client: Any = confluent_kafka.Producer(settings)
    client.init_transactions(20)
    return client


def begin(installation: StreamInstallation, producer: Any, *identifiers: str) -> None:
    producer.begin_transaction()
    for identifier in identifiers:
        producer.produce(installation.kafka.topic, payload(identifier), b"k")
        producer.produce(installation.kafka.labels_topic, label(identifier), b"k")
    assert producer.flush(20) == 0


def position(installation: StreamInstallation) -> int | None:
    rows = installation.rows(
        "SELECT next_offset FROM stream_offsets WHERE topic = %s", installation.kafka.topic
    )
    return rows[0][0] if rows else None


def test_payments_that_were_aborted_never_happened(installation: StreamInstallation, producer: Any) -> None:
    begin(installation, producer, *"abcde")
    producer.abort_transaction(20)
    result = installation.consume(seconds=20.0)
    assert (result["consumed"], result["lag"], result["labels"]["lag"]) == (0, 0, 0)
    assert result["seconds"] < 10, "it must not wait for records that will never arrive"
    assert (installation.count("transactions"), installation.count("labels"), position(installation)) == (
        0,
        0,
        6,
    )
    begin(installation, producer, "kept")
    producer.commit_transaction(20)
    assert installation.consume()["stored"] == 1
    assert (installation.ids(), position(installation), shown(installation, "transactions", 1)["lag"]) == (
        {"kept"},
        8,
        0,
    )
    # The end of the log is a marker; the latest record is shown all the same.
    assert (
        json.loads(shown(installation, "transactions", 1)["records"][0]["value"])["transaction_id"] == "kept"
    )


def test_a_run_does_not_wait_for_an_open_transaction(installation: StreamInstallation, producer: Any) -> None:
    installation.send(creditcard_records(["before"]))
    begin(installation, producer, "open")
    installation.send(creditcard_records(["behind"]))
    for _ in range(2):
        result = installation.consume(seconds=20.0)
        assert (result["lag"], installation.ids(), position(installation)) == (2, {"before"}, 1)
        assert result["seconds"] < 10
    producer.commit_transaction(20)
    assert installation.consume()["lag"] == 0
    assert installation.ids() == {"before", "open", "behind"}


def test_a_follower_shows_an_open_transaction_as_lag(installation: StreamInstallation, producer: Any) -> None:
    topic = {"topic": installation.kafka.topic}
    installation.send(creditcard_records(["before"]))
    begin(installation, producer, "open")
    with following(installation.installation) as follower:
        assert eventually(lambda: installation.ids() == {"before"}, PATIENCE)
        assert eventually(lambda: follower.metric("fraud_stream_lag_records", **topic) == 1, PATIENCE)
        producer.abort_transaction(20)
        installation.send(creditcard_records(["behind"]))
        assert eventually(lambda: installation.ids() == {"before", "behind"}, PATIENCE)
        begin(installation, producer, "never")
        producer.abort_transaction(20)
        assert eventually(lambda: position(installation) == 6, PATIENCE), (
            "gaps are passed while nothing comes"
        )
        assert eventually(lambda: follower.metric("fraud_stream_lag_records", **topic) == 0, PATIENCE)
        assert follower.ready()
        assert follower.end()["stored"] == 2


def put_bomb(installation: StreamInstallation, codec: str) -> None:
    put(installation, WireBatch([WireRecord(payload("first"))]))
    packed = bomb(codec, payload("before"), payload("after"))
    assert produce(installation.kafka.kafka_bootstrap_servers, installation.kafka.topic, packed) == 0


def consumer_peak_mib(installation: StreamInstallation, *arguments: str, **stop: Any) -> float:
    command = [sys.executable, "-m", "fraud_streaming", *arguments]
    return peak_mib(command, installation.environment(), **stop)


@pytest.mark.parametrize("codec", BOMBS)
def test_a_bomb_is_one_dead_letter_and_takes_no_memory(installation: StreamInstallation, codec: str) -> None:
    put_bomb(installation, codec)
    assert consumer_peak_mib(installation, "run", "--max-seconds", "60") < PEAK_MIB
    assert installation.ids() == {"first", "before", "after"}
    assert stored_dead_letters(installation) == [(installation.kafka.topic, 2, "too_large", BOMBS[codec])]


def test_a_bomb_takes_no_memory_of_the_follower(installation: StreamInstallation) -> None:
    put_bomb(installation, "zstd")
    arguments = ("run", "--follow", "--metrics-port", str(free_ports(1)[0]))
    peak = consumer_peak_mib(
        installation, *arguments, stop_when=lambda: installation.count("transactions") == 3
    )
    assert peak < PEAK_MIB
    assert stored_dead_letters(installation) == [(installation.kafka.topic, 2, "too_large", BOMBS["zstd"])]
