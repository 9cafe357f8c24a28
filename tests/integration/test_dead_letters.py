"""Dead letters against real servers: how many pass, what they keep, life without their topic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from config.settings import KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import KafkaFailure, ensure_topics, topic_ids
from fraud_adapters.postgres.dead_letters import DeadLetter
from fraud_streaming.dead_letters.topic import DeadLetterTopic
from tests.support.api_server import ApiServer, cloned, scoring_server
from tests.support.stored_rows import Database
from tests.support.streaming_installation import StreamInstallation, creditcard_records


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("dead-letters-api")
    with (
        cloned(template, postgres_admin_url, "dead_letters_api") as database,
        scoring_server(database, directory) as server,
    ):
        yield server


@pytest.fixture
def installation(database: Database, topics: KafkaSettings, api: ApiServer) -> StreamInstallation:
    return StreamInstallation(database, topics, api.url)


def test_a_flood_a_few_at_a_time_is_stopped_and_stays_so_over_restarts(
    installation: StreamInstallation,
) -> None:
    installation.send([b"{}"] * 60)
    for _ in range(3):
        with pytest.raises(JobFailed, match=r"3 of 3 records .* offset 18 .*\(21 of the latest 21\)"):
            installation.consume(chunk_records=3)
        assert installation.count("dead_letters") == 18
    installation.send(creditcard_records(["good"]))
    installation.streaming = installation.streaming.model_copy(update={"max_bad_share": 1.0})
    assert installation.consume()["dead_lettered"] == {"missing_field": 42}
    assert installation.ids() == {"good"}


def letter(installation: StreamInstallation, offset: int, payload: bytes = b"{}") -> DeadLetter:
    return DeadLetter(installation.kafka.topic, 0, offset, None, payload, len(payload), "not_json", "why")


def origins(installation: StreamInstallation) -> list[str]:
    return [record.headers["origin"].decode() for record in installation.dead_letter_topic()]


def delete_topic(installation: StreamInstallation, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": installation.kafka.kafka_bootstrap_servers})
    admin.delete_topics([topic])[topic].result(timeout=10)


def test_a_dead_letter_topic_that_was_deleted_is_made_again(installation: StreamInstallation) -> None:
    name = installation.kafka.dlq_topic
    with DeadLetterTopic(installation.kafka.bootstrap_servers, name, recheck_s=0) as topic:
        topic.publish([letter(installation, 1)])
        delete_topic(installation, name)
        topic.publish([letter(installation, 2)])
        assert origins(installation) == [f"{installation.kafka.topic}/0/2"]


def test_what_its_topic_refuses_is_not_skipped_and_set_aside_once_later(
    installation: StreamInstallation,
) -> None:
    settings = installation.streaming
    installation.send(creditcard_records(["before"]))
    installation.send_with_foreign_client([b"x" * 1_200_000])
    installation.send(creditcard_records(["after"]))
    # More than a message may hold.
    installation.streaming = settings.model_copy(update={"dead_letter_payload_bytes": 2_000_000})
    for _ in range(2):
        with pytest.raises(
            JobFailed, match=f"{installation.kafka.dlq_topic} was not published: .*MessageSizeTooLarge"
        ):
            installation.consume()
    assert (
        installation.count("transactions"),
        installation.count("dead_letters"),
        installation.count("stream_offsets"),
    ) == (0, 0, 0)
    installation.streaming = settings
    assert installation.consume()["dead_lettered"] == {"too_large": 1}
    assert installation.ids() == {"before", "after"}
    assert installation.rows("SELECT record_offset, payload_bytes FROM dead_letters") == [(1, 1_200_000)]
    assert origins(installation) == [f"{installation.kafka.topic}/0/1"]


def test_a_publisher_that_was_refused_is_made_again(installation: StreamInstallation) -> None:
    with DeadLetterTopic(installation.kafka.bootstrap_servers, installation.kafka.dlq_topic) as topic:
        with pytest.raises(KafkaFailure, match="MessageSizeTooLarge"):
            topic.publish([letter(installation, 1), letter(installation, 2, b"x" * 1_200_000)])
        topic.publish([letter(installation, 1)])
    assert f"{installation.kafka.topic}/0/1" in origins(installation)


def test_a_dead_letter_tells_all_it_takes_to_put_it_back(installation: StreamInstallation) -> None:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    installation.send([b"{", b"[" * 20_000], headers={"schema": b"creditcard/1", "traceparent": trace})
    installation.send([b"{}"], headers={"schema": b"s" * 10_000, "redriven": b"t/0/\0\xff", "else": b"x"})
    installation.consume()
    whole, beginning, other = sorted(
        installation.dead_letter_topic(), key=lambda record: record.headers["origin"]
    )
    stored = installation.rows(
        "SELECT record_timestamp_ms, topic_id, redriven_from FROM dead_letters ORDER BY id"
    )
    assert {name: value.decode() for name, value in whole.headers.items()} == {
        "schema": "creditcard/1",
        "traceparent": trace.decode(),
        "reason": "not_json",
        "detail": "The record is not JSON in UTF-8.",
        "origin": f"{installation.kafka.topic}/0/0",
        "origin_timestamp_ms": str(stored[0][0]),
        "payload_bytes": "1",
    }
    assert (beginning.headers["incomplete"], beginning.headers["payload_bytes"]) == (b"true", b"20000")
    assert (len(beginning.value), len(other.headers["schema"])) == (16384, 256)
    assert "else" not in other.headers
    assert [row[1:] for row in stored] == [
        (
            topic_ids(installation.kafka.bootstrap_servers, [installation.kafka.topic])[
                installation.kafka.topic
            ],
            origin,
        )
        for origin in (None, None, "t/0/\ufffd\ufffd")
    ]
    assert abs(stored[0][0] - time.time() * 1000) < 60_000


def test_a_topic_made_again_has_dead_letters_of_its_own(installation: StreamInstallation) -> None:
    installation.send([b"{"])
    installation.consume()
    delete_topic(installation, installation.kafka.topic)
    ensure_topics(installation.kafka.bootstrap_servers, [installation.kafka.topic])
    installation.rows("DELETE FROM stream_offsets")  # what the sentence tells the database's owner to do
    installation.send([b"[]"])
    installation.consume()
    assert installation.rows("SELECT record_offset, reason FROM dead_letters ORDER BY id") == [
        (0, "not_json"),
        (0, "not_object"),
    ]
