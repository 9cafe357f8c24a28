"""The bounded consumer against real servers: nothing lost, nothing doubled, bad records set aside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from config.settings import KafkaSettings
from fraud_adapters.job import NothingToDo
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import PartitionReader, ensure_topics
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.offsets import lock_partition
from fraud_airflow import summaries
from fraud_streaming.consume.backlog import lag
from tests.support.api_server import ApiServer, cloned, scoring_server
from tests.support.stored_rows import Database
from tests.support.streaming_installation import STREAMING, StreamInstallation, creditcard_records
from tests.support.waiting import eventually

IDS = [f"tx-{number}" for number in range(250)]


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("streaming-api")
    with (
        cloned(template, postgres_admin_url, "streaming_api") as database,
        scoring_server(database, directory) as server,
    ):
        yield server


@pytest.fixture
def installation(database: Database, topics: KafkaSettings, api: ApiServer) -> StreamInstallation:
    return StreamInstallation(database, topics, api.url)


def test_transactions_are_scored_and_stored(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS))
    result = installation.consume()
    assert (result["consumed"], result["stored"], result["replayed"], result["lag"]) == (250, 250, 0, 0)
    assert result["batches"] == 3
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]
    assert installation.ids() == set(IDS)
    stored = installation.rows(
        "SELECT t.source, t.contract, t.event_time, p.model_version, p.role, p.deciding, p.engine, p.score,"
        " p.fraud_score, p.is_fraud_predicted, cardinality(p.feature_vector), p.latency_ms > 0"
        " FROM transactions t JOIN predictions p USING (transaction_id) WHERE transaction_id = 'tx-7'"
    )
    source, contract, moment, version, role, deciding, engine, score, rounded, fraud, width, timed = stored[0]
    assert (source, contract, version, role, deciding) == ("stream", "creditcard/1", "7", "champion", True)
    assert moment == datetime(2026, 3, 1, 12, 0, 7, 250000, tzinfo=UTC)
    assert engine.startswith("xgboost-")
    assert (round(score, 4), fraud, width, timed) == (float(rounded), score >= 0.5, 30, True)


def test_a_second_run_finds_nothing_and_a_replay_doubles_nothing(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS[:120]))
    assert installation.consume()["stored"] == 120
    assert installation.consume()["consumed"] == 0
    installation.send(creditcard_records(IDS[:120]))  # a producer that sends all again
    result = installation.consume()
    assert (result["consumed"], result["stored"], result["replayed"]) == (120, 0, 120)
    assert (installation.count("transactions"), installation.count("predictions")) == (120, 120)
    assert installation.count("dead_letters") == 0


def test_what_a_run_may_read_is_bounded(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS))
    result = installation.consume(records=130, chunk_records=50)
    assert (result["consumed"], result["batches"], result["lag"]) == (130, 3, 120)
    assert installation.consume()["consumed"] == 120
    assert installation.ids() == set(IDS)


def test_two_partitions_are_both_read(installation: StreamInstallation) -> None:
    topic = installation.kafka.topic.replace("test-", "two-")
    installation.kafka = KafkaSettings(
        kafka_bootstrap_servers=installation.kafka.kafka_bootstrap_servers, kafka_topic=topic
    )
    ensure_topics(installation.kafka.bootstrap_servers, [topic], partitions=2)
    ensure_topics(installation.kafka.bootstrap_servers, [installation.kafka.labels_topic])
    from fraud_adapters.kafka import Publisher  # noqa: PLC0415

    with Publisher(installation.kafka.bootstrap_servers) as publisher:
        for number, record in enumerate(creditcard_records(IDS)):
            publisher.send(topic, str(number).encode(), json.dumps(record).encode())
    assert installation.consume()["stored"] == 250
    assert sum(row[0] for row in installation.rows("SELECT next_offset FROM stream_offsets")) == 250
    assert installation.count("stream_offsets") == 2


HOSTILE: dict[str, tuple[Any, str]] = {
    "NaN": ({"amount": float("nan")}, "not_finite"),
    "Infinity": ({"v1": float("inf")}, "not_finite"),
    "beyond a double": (b'"v1": 1e400', "not_finite"),
    "text for a number": ({"amount": "12"}, "wrong_type"),
    "true for a number": ({"amount": True}, "wrong_type"),
    "null for a number": ({"amount": None}, "wrong_type"),
    "list for a number": ({"amount": [1]}, "wrong_type"),
    "missing field": ({"v3": ...}, "missing_field"),
    "missing id": ({"transaction_id": ...}, "missing_field"),
    "unknown field": ({"v29": 1.0}, "unknown_field"),
    "negative amount": ({"amount": -1.0}, "out_of_range"),
    "amount too large": ({"amount": 1e13}, "out_of_range"),
    "400 digits": (b'"v1": ' + b"9" * 400, "wrong_type"),
    "id with NUL": ({"transaction_id": "a\0b"}, "bad_id"),
    "id too long": ({"transaction_id": "x" * 51}, "bad_id"),
    "empty id": ({"transaction_id": ""}, "bad_id"),
    "id with a lone surrogate": ({"transaction_id": "a\ud800"}, "bad_id"),
    "naive time": ({"event_time": "2026-03-01T12:00:00"}, "bad_time"),
    "no time": ({"event_time": "yesterday"}, "bad_time"),
    "duplicate key": (b'"v1": 1.0, "v1": 2.0', "duplicate_key"),
    "empty": (b"", "empty"),
    "not JSON": (b"{", "not_json"),
    "invalid UTF-8": (b"\xff\xfe\x00", "not_json"),
    "UTF-16": (json.dumps(creditcard_records(["bad"])[0]).encode("utf-16"), "not_json"),
    "UTF-16 without a mark": (json.dumps(creditcard_records(["bad"])[0]).encode("utf-16-le"), "not_json"),
    "UTF-32": (json.dumps(creditcard_records(["bad"])[0]).encode("utf-32"), "not_json"),
    "nested 100,000 times": (b"[" * 50_000, "not_json"),
    "a list": (b"[1, 2]", "not_object"),
    "10 MB": (b'{"v1": "' + b"x" * 10_000_000 + b'"}', "too_large"),
}


def hostile_payload(number: int, change: dict[str, Any] | bytes) -> bytes:
    """A record that is valid but for one thing; bytes are a member put into it, or the whole payload."""
    record = creditcard_records([f"bad-{number}"])[0]
    if isinstance(change, dict):
        fields = {name: value for name, value in (record | change).items() if value is not ...}
        return json.dumps(fields).encode()
    if not change.startswith(b'"'):
        return change
    del record["v1"]
    return json.dumps(record).encode()[:-1] + b", " + change + b"}"


def test_every_hostile_record_is_set_aside_and_its_neighbours_are_stored(
    installation: StreamInstallation,
) -> None:
    good = creditcard_records([f"good-{number}" for number in range(2 * len(HOSTILE))])
    sent: list[Any] = []
    for number, (change, _) in enumerate(HOSTILE.values()):
        sent += [good[2 * number], hostile_payload(number, change), good[2 * number + 1]]
    installation.send_with_foreign_client(sent)
    result = installation.consume()
    assert (result["consumed"], result["stored"]) == (3 * len(HOSTILE), 2 * len(HOSTILE))
    assert installation.ids() == {record["transaction_id"] for record in good}
    dead_letters = installation.rows(
        "SELECT record_offset, reason, detail, payload_bytes, length(payload), topic, record_key"
        " FROM dead_letters ORDER BY 1"
    )
    reasons = {name: reason for name, (_, reason, *_) in zip(HOSTILE, dead_letters, strict=True)}
    assert reasons == {name: reason for name, (_, reason) in HOSTILE.items()}
    assert [row[0] for row in dead_letters] == [3 * number + 1 for number in range(len(HOSTILE))]
    assert sum(result["dead_lettered"].values()) == len(HOSTILE)
    for _, _, detail, size, stored_bytes, topic, key in dead_letters:
        assert detail
        assert (stored_bytes, topic, bytes(key)) == (min(size, 16384), installation.kafka.topic, b"key")
    published = installation.dead_letter_topic()
    assert [record.headers["reason"].decode() for record in published] == [row[1] for row in dead_letters]
    assert [record.headers["origin"].decode() for record in published] == [
        f"{installation.kafka.topic}/0/{row[0]}" for row in dead_letters
    ]
    assert max(len(record.value) for record in published) == 16384


def test_records_of_another_contract_are_set_aside(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(["ours"]))
    installation.send(creditcard_records(["theirs"]), headers={"schema": b"creditcard/2"})
    installation.send(creditcard_records(["unnamed"]), headers={})  # a plain producer names none
    assert installation.consume()["dead_lettered"] == {"schema_mismatch": 1}
    assert installation.ids() == {"ours", "unnamed"}


@pytest.mark.parametrize("value", [None, b""], ids=["null", "empty"])
def test_a_schema_header_without_a_value_names_no_contract(
    installation: StreamInstallation, value: bytes | None
) -> None:
    installation.send_with_foreign_client(
        creditcard_records(["a", "b"]), [("schema", value), ("redriven", value)]
    )
    installation.send_with_foreign_client([b"{"], [("schema", value), ("redriven", value)])
    assert installation.consume()["dead_lettered"] == {"not_json": 1}
    assert installation.ids() == {"a", "b"}
    assert installation.rows("SELECT redriven_from FROM dead_letters") == [(None,)]


def test_a_byte_order_mark_is_no_part_of_a_record(installation: StreamInstallation) -> None:
    record = creditcard_records(["marked"])[0]
    installation.send_with_foreign_client([json.dumps(record).encode("utf-8-sig")])
    labels = [json.dumps(label("marked")).encode(code) for code in ("utf-8-sig", "utf-16", "utf-32")]
    installation.send_with_foreign_client(labels, topic=installation.kafka.labels_topic)
    result = installation.consume()
    assert (result["stored"], result["labels"]["stored"]) == (1, 1)
    assert result["labels"]["dead_lettered"] == {"not_json": 2}
    assert installation.ids() == {"marked"}


def test_an_id_known_with_other_fields_is_a_conflict(installation: StreamInstallation) -> None:
    first, second = creditcard_records(["same", "other"])
    installation.send([first, second, first | {"amount": 1.25}, first])
    result = installation.consume()
    assert (result["stored"], result["replayed"]) == (2, 1)
    assert result["dead_lettered"] == {"id_conflict": 1}
    assert installation.rows("SELECT record_offset, reason FROM dead_letters") == [(2, "id_conflict")]
    assert [record.headers["reason"] for record in installation.dead_letter_topic()] == [b"id_conflict"]
    amount = installation.rows("SELECT amount FROM transactions WHERE transaction_id = 'same'")[0][0]
    assert float(amount) == first["amount"]


def test_a_row_the_database_refuses_does_not_take_its_neighbours_along(
    installation: StreamInstallation,
) -> None:
    installation.rows("ALTER TABLE transactions ADD CONSTRAINT unlucky CHECK (amount <> 13.13)")
    records = creditcard_records(IDS[:30])
    records[11]["amount"] = 13.13
    installation.send(records)
    result = installation.consume()
    assert (result["stored"], result["dead_lettered"]) == (29, {"database_refused": 1})
    assert installation.ids() == set(IDS[:30]) - {"tx-11"}
    assert "unlucky" in installation.rows("SELECT detail FROM dead_letters")[0][0]


def test_a_flood_of_bad_records_stops_the_run(installation: StreamInstallation) -> None:
    installation.send([*creditcard_records(IDS[:10]), *([b"{}"] * 30)])
    with pytest.raises(JobFailed, match=r"30 of 40 records .* missing_field .*--max-bad-share 1"):
        installation.consume()
    assert (
        installation.count("transactions"),
        installation.count("dead_letters"),
        installation.count("stream_offsets"),
    ) == (0, 0, 0)
    installation.streaming = installation.streaming.model_copy(update={"max_bad_share": 1.0})
    assert installation.consume()["dead_lettered"] == {"missing_field": 30}
    assert installation.ids() == set(IDS[:10])


def test_the_records_time_and_trace_are_kept(installation: StreamInstallation) -> None:
    record = creditcard_records(["timed"])[0]
    del record["event_time"]
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    before = datetime.now(UTC)
    installation.send([record], headers={"traceparent": trace})
    installation.send(creditcard_records(["other"]), headers={"traceparent": b"nonsense\0"})
    installation.consume()
    rows = dict(installation.rows("SELECT transaction_id, traceparent FROM predictions"))
    assert rows == {"timed": trace.decode(), "other": None}
    moment = installation.rows("SELECT event_time FROM transactions WHERE transaction_id = 'timed'")[0][0]
    assert abs((moment - before).total_seconds()) < 30


def label(transaction: str, value: int = 1, **more: Any) -> dict[str, Any]:
    return {"transaction_id": transaction, "label": value, "source": "analyst", **more}


def test_labels_are_drained_and_may_come_before_their_transaction(installation: StreamInstallation) -> None:
    installation.send_labels(
        [label("early"), b"not json", label("early", 7), label("early", source="gossip")]
    )
    result = installation.consume()["labels"]
    assert (result["consumed"], result["stored"], result["lag"]) == (4, 1, 0)
    assert result["dead_lettered"] == {"not_json": 1, "out_of_range": 2}
    installation.send(creditcard_records(["early", "late"]))
    installation.send_labels([label("late", 0), label("early")])
    installation.consume()
    assert dict(installation.rows("SELECT transaction_id, class FROM transactions")) == {
        "early": 1,
        "late": 0,
    }
    dead_letters = installation.rows("SELECT topic, record_offset FROM dead_letters ORDER BY 2")
    assert dead_letters == [(installation.kafka.labels_topic, offset) for offset in (1, 2, 3)]
    assert len(installation.dead_letter_topic()) == 3


def test_a_label_id_known_with_other_content_is_a_conflict(installation: StreamInstallation) -> None:
    identifier = "0190b2d4-0000-7000-8000-000000000001"
    moment = "2026-03-02T00:00:00Z"
    installation.send_labels(
        [label("a", 1, label_id=identifier, reported_at=moment)] * 2
        + [label("a", 0, label_id=identifier, reported_at=moment)]
    )
    result = installation.consume()["labels"]
    assert (result["stored"], result["replayed"]) == (1, 1)
    assert result["dead_lettered"] == {"label_conflict": 1}


def completion_line(written: str) -> str:
    """What the DAG's last task logs of the result that a job wrote."""
    return summaries.streaming(json.loads(written))[0]


def test_the_lag_of_labels_that_another_holds_is_known(installation: StreamInstallation) -> None:
    """Unless Kafka does not show the end of the topic in time: then the run's line says so."""
    installation.send(creditcard_records(IDS[:10]))
    installation.send_labels(
        [{"transaction_id": f"tx-{number}", "label": 0, "source": "analyst"} for number in range(3)]
    )
    with closing(connect(installation.database.url("streaming"), "other")) as other:
        assert lock_partition(other, installation.kafka.labels_topic, 0)
        result = installation.consume()
        with PartitionReader(
            installation.kafka.bootstrap_servers, installation.kafka.labels_topic, "test", 1
        ) as reader:
            assert lag(other, reader, installation.kafka.labels_topic) == 3
            assert lag(other, reader, installation.kafka.labels_topic, seconds=0.0) is None
    assert (result["stored"], result["labels"]["consumed"], result["labels"]["lag"]) == (10, 0, 3)
    assert result["stalled_holders_ended"] == []
    for known, shown in ((3, "3"), (None, "unknown")):
        written = json.dumps({**result, "labels": {**result["labels"], "lag": known}})
        assert f"lag 0; 0 labels stored, lag {shown}; 0 dead letters," in completion_line(written)


def test_a_run_says_for_how_long_another_has_stood_still_and_then_goes_on(
    installation: StreamInstallation,
) -> None:
    installation = replace(
        installation, streaming=STREAMING.model_copy(update={"stalled_after_seconds": 1.5})
    )
    installation.send(creditcard_records(IDS[:10]))
    with closing(connect(installation.database.url("streaming"), "other")) as other:
        assert lock_partition(other, installation.kafka.topic, 0)
        with pytest.raises(NothingToDo, match=r"has not moved for 0 s although records wait; after 2 s"):
            installation.consume()
        # As if the run had looked that much earlier.
        installation.rows("UPDATE stream_stalls SET seen_at = seen_at - interval '1.6 seconds' RETURNING 1")
        result = installation.consume()
    assert result["stalled_holders_ended"] == [f"{installation.kafka.topic}/0"]
    assert result["stored"] == 10


def test_a_partition_at_work_elsewhere_is_left_alone(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS[:3]))
    with closing(connect(installation.database.url("streaming"), "other")) as other:
        assert lock_partition(other, installation.kafka.topic, 0)
        with pytest.raises(NothingToDo, match="Another consumer"):
            installation.consume()
        assert installation.count("transactions") == 0
    assert installation.consume()["stored"] == 3


def test_a_topic_made_again_stops_the_run(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS[:5]))
    installation.consume()
    admin = AdminClient({"bootstrap.servers": installation.kafka.kafka_bootstrap_servers})
    admin.delete_topics([installation.kafka.topic])[installation.kafka.topic].result(timeout=10)
    ensure_topics(installation.kafka.bootstrap_servers, [installation.kafka.topic])
    installation.send(creditcard_records(IDS[5:10]))
    with pytest.raises(JobFailed, match=r"created again .* stream_offsets"):
        installation.consume()
    assert installation.count("transactions") == 5


def test_without_the_api_nothing_moves(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS[:5]))
    url, installation.api_url = installation.api_url, "http://127.0.0.1:9"
    with pytest.raises(JobFailed, match=r"The API at http://127\.0\.0\.1:9 does not answer"):
        installation.consume()
    assert (installation.count("transactions"), installation.count("stream_offsets")) == (0, 0)
    installation.api_url = url
    assert installation.consume()["stored"] == 5


@pytest.fixture
def mortal_api(template: Any, postgres_admin_url: str, tmp_path: Path) -> Iterator[ApiServer]:
    """An API that a test may end."""
    with (
        cloned(template, postgres_admin_url, "streaming_api_gone") as own,
        scoring_server(own, tmp_path) as server,
    ):
        yield server


def test_an_api_that_goes_away_meanwhile_loses_nothing(
    database: Database, topics: KafkaSettings, mortal_api: ApiServer
) -> None:
    installation = StreamInstallation(database, topics, mortal_api.url)
    installation.send(creditcard_records(IDS[:40]))
    assert installation.consume(records=20)["stored"] == 20
    mortal_api.stop()
    with pytest.raises(JobFailed, match="does not answer"):
        installation.consume()
    assert installation.count("transactions") == 20
    mortal_api.start()
    assert installation.consume()["stored"] == 20
    assert installation.ids() == set(IDS[:40])


def test_a_database_that_refuses_is_named(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS[:5]))
    installation.rows("REVOKE INSERT ON predictions FROM PUBLIC, " + role(installation))
    done = installation.command("run")
    assert done.returncode == 1
    assert "predictions" in done.stderr
    assert installation.count("transactions") == 0


def role(installation: StreamInstallation) -> str:
    with closing(connect(installation.database.url("streaming"), "test")) as connection:
        user: str = connection.info.user
        return user


def test_the_command_gives_one_json_document(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS[:30]))
    done = installation.command("run", "--batch-size", "10", "--max-records", "20")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["consumed"], result["batches"], result["lag"]) == ("done", 20, 2, 10)
    assert completion_line(done.stdout).startswith(
        "20 transactions stored in 2 batches (0 known already), lag 10; 0 labels stored, lag 0;"
    )
    topics = json.loads(installation.command("topics", "--peek", "2").stdout)["topics"]
    shown = {topic["topic"]: topic for topic in topics}
    first = shown[installation.kafka.topic]["partitions"][0]
    assert (first["position"], first["end"], first["lag"], first["same_topic"]) == (20, 30, 10, True)
    assert [record["offset"] for record in shown[installation.kafka.topic]["records"]] == [28, 29]
    assert json.loads(shown[installation.kafka.topic]["records"][1]["value"])["transaction_id"] == "tx-29"
    with closing(connect(installation.database.url("streaming"), "other")) as other:
        # The server ends the run's session a moment after its connection was closed.
        assert eventually(lambda: lock_partition(other, installation.kafka.topic, 0))
        assert installation.command("run").returncode == 99


def test_kafkas_own_tools_see_the_position(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(IDS[:30]))
    installation.consume()
    consumer = Consumer(
        {
            "bootstrap.servers": installation.kafka.kafka_bootstrap_servers,
            "group.id": installation.kafka.group,
        }
    )
    try:
        committed = consumer.committed([TopicPartition(installation.kafka.topic, 0)], timeout=10)
    finally:
        consumer.close()
    assert committed[0].offset == 30


def test_silence_that_has_lasted_is_judged_at_the_end_of_a_run(installation: StreamInstallation) -> None:
    installation.fell_silent("silent")
    assert installation.consume()["classes_refreshed"] == 1
    assert installation.rows("SELECT transaction_id, class FROM transactions") == [("silent", 0)]
    assert installation.consume()["classes_refreshed"] == 0
