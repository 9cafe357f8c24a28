"""Alerts against real servers: blocked and reviewed transactions are announced despite failures."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from psycopg2.extensions import connection as Connection  # noqa: N812

from config.settings import KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import BrokerUnavailable, Record
from fraud_adapters.postgres import DatabaseUnavailable, connect
from fraud_adapters.postgres.alert_outbox import take_alerts
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_core.batch import Batch
from fraud_core.contract import Contract
from fraud_streaming.follow.alerts import BATCH_ALERTS, AlertRelay
from fraud_streaming.topics import describe
from tests.support.api_server import NOWHERE, ApiServer, cloned, scoring_server
from tests.support.stored_rows import CREDITCARD, START, WIRE, Database, batch, predictions, run
from tests.support.streaming_installation import StreamInstallation, creditcard_records, read_all

DECISIONS = ("block", "review", "approve")


@pytest.fixture(scope="module")
def home(template: Any, postgres_admin_url: str) -> Iterator[Database]:
    """The database the API stores into."""
    with cloned(template, postgres_admin_url, "alerts_api") as clone:
        yield clone


@pytest.fixture(scope="module")
def api(home: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with scoring_server(home, tmp_path_factory.mktemp("alerts-api")) as server:
        yield server


def decided(
    database: Database, rows: Batch, decisions: Sequence[str] | None = None, contract: Contract = CREDITCARD
) -> list[str]:
    """Store rows with decisions, a block, a review and an approval in turn; returns ids to announce."""
    given_decisions = decisions or [DECISIONS[number % 3] for number in range(len(rows))]
    with closing(connect(database.url("api"), "test")) as connection, connection:
        scored = replace(predictions(contract, rows), decisions=given_decisions)
        store_scored(connection.cursor(), contract, rows, scored, "api")
    return [identifier for identifier, one in zip(rows.ids, given_decisions, strict=True) if one != "approve"]


def waiting(database: Database) -> list[str]:
    return [row[0] for row in run(database.url("readonly"), "SELECT transaction_id FROM alert_outbox")]


@contextmanager
def relaying(
    database: Database, kafka: KafkaSettings, contract: Contract = CREDITCARD, batch: int = BATCH_ALERTS
) -> Iterator[AlertRelay]:
    def opened(name: str) -> Connection:
        return connect(database.url("streaming"), name)

    with AlertRelay(opened, kafka.bootstrap_servers, kafka.alerts_topic, contract, batch=batch) as relay:
        yield relay


def announced(kafka: KafkaSettings) -> list[str]:
    return [key(record) for record in read_all(kafka, kafka.alerts_topic)]


def key(record: Record) -> str:
    assert record.key is not None
    return record.key.decode()


def test_what_the_stream_and_the_api_decide_is_announced_once(
    home: Database, topics: KafkaSettings, api: ApiServer
) -> None:
    installation = StreamInstallation(home, topics, api.url)
    installation.send(creditcard_records([f"tx-{number}" for number in range(150)]))
    with api.client() as client:
        for sent in creditcard_records([f"direct-{number}" for number in range(60)], seed=2):
            client.post("/predict", json=sent).raise_for_status()
    result = installation.consume()
    expected = {row[0]: row[1:] for row in installation.rows(_EXPECTED)}
    assert {row[0] for row in expected.values()} == {"block", "review"}, (
        "the model must block some and review some"
    )
    assert {identifier.partition("-")[0] for identifier in expected} == {"tx", "direct"}
    assert len(expected) < 210, "the model must approve some"
    records = read_all(topics, topics.alerts_topic)
    assert Counter(key(record) for record in records) == Counter(expected.keys())
    assert (result["alerts_published"], waiting(home)) == (len(expected), [])
    for record in records:
        alert = json.loads(record.value)
        decision, score, version, event_time, prediction_time, amount, traceparent = expected[key(record)]
        assert alert == {
            "transaction_id": key(record),
            "decision": decision,
            "flag": {"block": "FRAUD", "review": "REVIEW"}[decision],
            "score": score,
            "is_fraud_predicted": True,
            "model_version": version,
            "policy_version": "0",
            "prediction_time": alert["prediction_time"],
            "event_time": alert["event_time"],
            "contract": "creditcard/1",
            "amount": amount,
        }
        assert datetime.fromisoformat(alert["event_time"]) == event_time
        assert datetime.fromisoformat(alert["prediction_time"]) == prediction_time
        assert alert["event_time"].endswith("Z")
        headers = {"schema": b"alert/1"} | ({"traceparent": traceparent.encode()} if traceparent else {})
        assert record.headers == headers
    installation.send(creditcard_records([f"tx-{number}" for number in range(150)]))
    assert installation.consume()["alerts_published"] == 0, "replays must not be announced"
    assert len(read_all(topics, topics.alerts_topic)) == len(expected)


_EXPECTED = """
    SELECT transaction_id, decision, score, model_version, event_time, prediction_time, amount::float8,
           traceparent
    FROM predictions JOIN transactions USING (transaction_id) WHERE deciding AND decision <> 'approve'
"""


def test_a_contract_of_ones_own_is_announced_with_its_own_fields(
    database: Database, topics: KafkaSettings
) -> None:
    columns = {
        "sent_amount": np.array([0.125, 123456789.123]),
        "hour": np.array([0.0, 23.0]),
        "channel": np.array(["web", "phone"], dtype=object),
        "urgent": np.array([1.0, 0.0]),
        "fee": np.array([np.nan, 1.25]),
        "payer": np.array(["Jürgen ✓", "p1"], dtype=object),
        "payee": np.array(["shop", "shop"], dtype=object),
    }
    decided(database, Batch(["w0", "w1"], [START] * 2, columns), ["block", "review"], WIRE)
    decided(database, batch(1), ["block"])
    with relaying(database, topics, WIRE) as relay:
        assert relay.publish() == 3
    published = {key(record): json.loads(record.value) for record in read_all(topics, topics.alerts_topic)}
    payer = WIRE.with_role("card")
    assert payer is not None
    assert (published["w0"]["amount"], published["w1"]["amount"]) == (0.125, 123456789.123)
    assert published["w0"]["card_id"] == columns[payer.name][0]
    # A transaction of the contract that was in force before.
    assert (published["tx-0"]["contract"], "card_id" in published["tx-0"]) == ("creditcard/1", False)
    assert published["tx-0"]["amount"] == batch(1).columns["amount"][0]


@contextmanager
def ended_before_deleting(database: Database) -> Iterator[None]:
    """Meanwhile the server ends each session that begins to delete alerts, which it has published by then."""
    for statement in _END_BEFORE_DELETING:
        run(database.url("admin"), statement)
    yield
    run(database.url("admin"), "DROP FUNCTION end_session CASCADE")


_END_BEFORE_DELETING = (
    """
    CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$
    """,
    """
    CREATE TRIGGER end_session BEFORE DELETE ON alert_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION end_session()
    """,
)


def test_a_crash_between_publishing_and_deleting_announces_again(
    database: Database, topics: KafkaSettings
) -> None:
    expected = decided(database, batch(30))
    with relaying(database, topics) as relay:
        with (
            ended_before_deleting(database),
            pytest.raises(DatabaseUnavailable, match="while alerts were published"),
        ):
            relay.publish()
        assert Counter(announced(topics)) == Counter(expected)
        assert sorted(waiting(database)) == sorted(expected)
        assert relay.publish() == len(expected), "the same relay must have reconnected"
    assert Counter(announced(topics)) == Counter(expected * 2)
    assert waiting(database) == []


def test_while_the_broker_is_down_they_wait(
    database: Database, topics: KafkaSettings, api: ApiServer
) -> None:
    nowhere = KafkaSettings(kafka_bootstrap_servers=NOWHERE, kafka_topic=topics.topic)
    with relaying(database, nowhere) as relay:
        assert relay.publish() == 0, "without alerts the broker must not be contacted"
        expected = decided(database, batch(30))
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="Kafka cannot be reached"):
                relay.publish()
    assert sorted(waiting(database)) == sorted(expected)
    installation = StreamInstallation(database, topics, api.url)
    assert installation.consume()["alerts_published"] == len(expected)
    assert Counter(announced(topics)) == Counter(expected)


def test_a_run_that_cannot_announce_fails_and_the_next_one_does(
    database: Database, topics: KafkaSettings, api: ApiServer
) -> None:
    installation = StreamInstallation(database, topics, api.url)
    expected = decided(database, batch(3))
    installation.send(creditcard_records(["late"]))
    with (
        ended_before_deleting(database),
        pytest.raises(JobFailed, match="Postgres was lost while alerts were published") as failed,
    ):
        installation.consume()
    assert failed.value.result["stored"] == 1
    assert set(waiting(database)) >= set(expected)
    assert installation.consume()["alerts_published"] >= len(expected)
    assert waiting(database) == []


def test_relays_side_by_side_never_announce_the_same(database: Database, topics: KafkaSettings) -> None:
    expected = decided(database, batch(240))
    start = threading.Barrier(3)
    published: list[int] = []

    def work() -> None:
        with relaying(database, topics, batch=7) as relay:
            start.wait(20)
            published.append(relay.publish())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(published) == len(expected)
    assert Counter(announced(topics)) == Counter(expected)


def test_what_one_relay_holds_another_leaves_alone_and_gets_it_back_after_a_rollback(
    database: Database, topics: KafkaSettings
) -> None:
    expected = decided(database, batch(30))
    with closing(connect(database.url("streaming"), "test")) as other, relaying(database, topics) as relay:
        held = [alert.transaction_id for alert in take_alerts(other.cursor(), CREDITCARD, 5)]
        assert relay.publish() == len(expected) - 5
        assert sorted(announced(topics) + held) == sorted(expected)
        other.rollback()
        assert relay.publish() == 5
    assert Counter(announced(topics)) == Counter(expected)


def test_the_topics_command_shows_what_waits_and_what_was_announced(
    database: Database, topics: KafkaSettings, api: ApiServer
) -> None:
    installation = StreamInstallation(database, topics, api.url)
    expected = decided(database, batch(3))
    assert describe(installation.installation.database, topics, 0)["alerts_waiting"] == 2
    assert installation.consume()["alerts_published"] == 2
    shown = describe(installation.installation.database, topics, 5)
    assert shown["alerts_waiting"] == 0
    records = {topic["topic"]: topic["records"] for topic in shown["topics"]}[topics.alerts_topic]
    assert {record["key"] for record in records} == set(expected)
    assert json.loads(records[0]["value"])["transaction_id"] == records[0]["key"]
