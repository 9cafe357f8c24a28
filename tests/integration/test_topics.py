"""The command `topics` for topics that are empty, missing, re-created, binary or busy."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from config.job_results.streaming import TopicsCreatedResult, TopicsResult
from config.settings import DatabaseSettings, KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import PartitionReader, Publisher, ensure_topics
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.offsets import move_offset
from fraud_streaming.__main__ import main
from fraud_streaming.topics import NAMES, _latest, create, describe
from tests.support.stored_rows import Database
from tests.support.typed_results import mismatches


@pytest.fixture
def settings(database: Database) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"database_url": database.url("streaming")})


def shown(
    settings: DatabaseSettings, kafka: KafkaSettings, peek: int = 0, only: str | None = None
) -> dict[str, Any]:
    described = json.loads(json.dumps(describe(settings, kafka, peek, only)))
    assert list(mismatches(TopicsResult, described)) == []
    topics = described["topics"]
    names = NAMES if only is None else (only,)
    return dict(zip(names, topics, strict=True))


def of_another_prefix(topics: KafkaSettings, prefix: str) -> KafkaSettings:
    return KafkaSettings(
        kafka_bootstrap_servers=topics.kafka_bootstrap_servers, kafka_topic=f"{prefix}-transactions"
    )


def position(settings: DatabaseSettings, topic: str, partition: int, topic_id: str, offset: int) -> None:
    with closing(connect(settings.url, "test")) as conn, conn, conn.cursor() as cur:
        move_offset(cur, topic, partition, topic_id, None, offset)


def test_an_empty_topic_has_no_lag_and_no_records(settings: DatabaseSettings, topics: KafkaSettings) -> None:
    states = shown(settings, topics, peek=3)
    for name in NAMES:
        assert (states[name]["exists"], states[name]["records"]) == (True, [])
    assert (states["transactions"]["lag"], states["labels"]["lag"]) == (0, 0)
    # The platform does not consume these topics, so they have no position.
    assert not {"lag"} & {*states["alerts"], *states["dlq"], *states["dlq"]["partitions"][0]}


def test_a_topic_that_is_not_there_is_said_to_be_missing(
    settings: DatabaseSettings, topics: KafkaSettings
) -> None:
    absent = of_another_prefix(topics, "absent")
    assert shown(settings, absent, peek=1) == {
        name: {"topic": f"absent-{name}", "exists": False, "consumed": name in {"transactions", "labels"}}
        for name in NAMES
    }


def test_lag_is_counted_from_the_position_over_all_partitions(
    settings: DatabaseSettings, topics: KafkaSettings
) -> None:
    kafka = of_another_prefix(topics, f"two-{topics.topic[:17]}")
    ensure_topics(kafka.bootstrap_servers, [kafka.topic], partitions=2)
    producer = Producer({"bootstrap.servers": kafka.kafka_bootstrap_servers})
    for number in range(10):
        producer.produce(
            kafka.topic, str(number).encode(), partition=number % 2, timestamp=1_000 * number + 1
        )
    producer.flush(10)
    before = shown(settings, kafka, only="transactions")["transactions"]
    assert before["lag"] == 10
    position(settings, kafka.topic, 1, before["id"], 4)
    state = shown(settings, kafka, peek=3, only="transactions")["transactions"]
    assert [(at["position"], at["end"], at["lag"]) for at in state["partitions"]] == [(None, 5, 5), (4, 5, 1)]
    assert state["lag"] == 6
    assert [record["value"] for record in state["records"]] == ["7", "8", "9"]
    assert state["records"][0]["timestamp"] == "1970-01-01T00:00:07.001000+00:00"


def test_of_a_topic_made_again_no_lag_is_made_up(settings: DatabaseSettings, topics: KafkaSettings) -> None:
    first = shown(settings, topics, only="transactions")["transactions"]
    position(settings, topics.topic, 0, first["id"], 500)
    admin = AdminClient({"bootstrap.servers": topics.kafka_bootstrap_servers})
    admin.delete_topics([topics.topic])[topics.topic].result(timeout=10)
    assert shown(settings, topics, only="transactions")["transactions"]["exists"] is False
    ensure_topics(topics.bootstrap_servers, [topics.topic])
    again = shown(settings, topics, only="transactions")["transactions"]
    at = again["partitions"][0]
    assert (at["same_topic"], at["position"], at["lag"], again["lag"]) == (False, 500, None, None)
    assert again["id"] != first["id"]


def test_what_is_no_text_can_be_looked_at(settings: DatabaseSettings, topics: KafkaSettings) -> None:
    with Publisher(topics.bootstrap_servers) as publisher:
        publisher.send(topics.dlq_topic, b"\xff\x00", b"\x00\xfe\x1b[31m", {"reason": b"\xc3\xa4\xff"})
        publisher.send(topics.dlq_topic, b"", b"x" * 900_000)
    binary, large = shown(settings, topics, peek=5, only="dlq")["dlq"]["records"]
    assert (binary["key"], binary["value"]) == ("\\xff\x00", "\x00\\xfe\x1b[31m")
    assert binary["headers"] == {"reason": "ä\\xff"}
    assert (len(large["value"]), large["value_bytes"]) == (2000, 900_000)


def test_a_look_ends_where_the_topic_ended_when_it_began(topics: KafkaSettings) -> None:
    with Publisher(topics.bootstrap_servers) as publisher:
        for number in range(20):
            publisher.send(topics.topic, b"", str(number).encode())
    with PartitionReader(topics.bootstrap_servers, topics.topic, "test") as reader:
        records = _latest(reader, {0: 0}, {0: 6}, 4)  # fourteen records arrived meanwhile
        assert [record["value"] for record in records] == ["2", "3", "4", "5"]
        assert [record["offset"] for record in _latest(reader, {0: 4}, {0: 6}, 4)] == [4, 5]


def test_a_broker_that_is_away_is_named(settings: DatabaseSettings) -> None:
    with pytest.raises(JobFailed, match=r"Kafka cannot be reached \(127\.0\.0\.1:9"):
        describe(settings, KafkaSettings(kafka_bootstrap_servers="127.0.0.1:9"), 0)


def test_missing_topics_are_made_and_the_others_left_alone(topics: KafkaSettings) -> None:
    own = of_another_prefix(topics, f"made-{uuid.uuid4().hex[:8]}")
    ensure_topics(own.bootstrap_servers, [own.labels_topic])
    done = create(own, 3)
    assert list(mismatches(TopicsCreatedResult, done)) == []
    assert done["created"] == [own.topic, own.alerts_topic, own.dlq_topic]
    assert create(own, 3) == {"status": "done", "topics": done["topics"], "created": []}
    for topic, partitions in ((own.topic, 3), (own.labels_topic, 1)):
        with PartitionReader(own.bootstrap_servers, topic, client_id="test") as reader:
            assert len(reader.partitions()) == partitions


def test_making_topics_needs_no_database(topics: KafkaSettings) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KAFKA_BOOTSTRAP_SERVERS", topics.kafka_bootstrap_servers)
        patch.setenv("KAFKA_TOPIC", topics.topic)
        assert main(["topics", "--create"])["created"] == []
        patch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
        with pytest.raises(JobFailed, match=r"127\.0\.0\.1:9"):
            main(["topics", "--create"])
        with pytest.raises(SystemExit, match="2"):
            main(["topics", "--create", "--peek", "1"])
