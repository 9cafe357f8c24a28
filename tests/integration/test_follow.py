"""The long-lived consumer against real servers."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from config.settings import KafkaSettings
from fraud_adapters.job import NothingToDo
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import ensure_topics
from fraud_adapters.postgres.offsets import lock_partition
from fraud_embedded.processes.ports import free_ports
from tests.integration.following import following
from tests.integration.group_members import Member, poll_until
from tests.support.api_server import ApiServer, cloned, scoring_server
from tests.support.stored_rows import Database, waits_for_a_lock
from tests.support.streaming_installation import ROOT, StreamInstallation, creditcard_records, read_all
from tests.support.waiting import eventually

PATIENCE = 60.0
THREADS = {"transactions": True, "labels": True, "companion": True, "watch": True}


@pytest.fixture(scope="module")
def api(
    template: Any, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("follow-api")
    with (
        cloned(template, postgres_admin_url, "follow_api") as database,
        scoring_server(database, directory) as server,
    ):
        yield server


@pytest.fixture
def installation(database: Database, topics: KafkaSettings, api: ApiServer) -> StreamInstallation:
    return StreamInstallation(database, topics, api.url)


def ids(start: int, end: int) -> list[str]:
    return [f"tx-{number}" for number in range(start, end)]


def stored(installation: StreamInstallation, count: int) -> bool:
    return eventually(lambda: installation.count("transactions") >= count, PATIENCE)


def exact(installation: StreamInstallation, count: int) -> bool:
    """Every transaction once, each with exactly one deciding prediction."""
    return installation.rows(
        "SELECT count(*), count(DISTINCT t.transaction_id), count(p.transaction_id)"
        " FROM transactions t LEFT JOIN predictions p ON p.transaction_id = t.transaction_id AND p.deciding"
    ) == [(count, count, count)]


def test_it_stores_what_was_there_and_what_comes(installation: StreamInstallation) -> None:
    installation.send([*creditcard_records(ids(0, 200)), b"not json"])
    installation.send_labels([{"transaction_id": "tx-1", "label": 1, "source": "analyst"}])
    with following(installation.installation) as follower:
        assert stored(installation, 200)
        installation.send(creditcard_records(ids(200, 300)))
        assert stored(installation, 300)
        assert eventually(lambda: installation.count("labels") == 1, PATIENCE)
        topic = installation.kafka.topic
        counted = {"topic": topic, "outcome": "stored"}
        assert eventually(lambda: follower.metric("fraud_stream_records_total", **counted) == 300)
        assert follower.metric("fraud_stream_dead_letters_total", topic=topic, reason="not_json") == 1
        assert follower.metric("fraud_stream_partitions", topic=topic) == 1
        position = "fraud_stream_position"
        assert eventually(lambda: follower.metric(position, topic=topic) == 301, PATIENCE)
        assert eventually(lambda: "fraud_stream_lag_records{" in follower.get("/metrics")[1])
        assert eventually(lambda: follower.metric("fraud_stream_lag_records") == 0, PATIENCE)
        assert follower.metric("fraud_stream_batch_seconds_count", topic=topic) >= 1
        assert follower.get("/health/live")[0] == 200
        assert eventually(follower.ready, PATIENCE)
        assert follower.get("/nothing")[0] == 404
        result = follower.end()
    assert (result["stored"], result["dead_lettered"], result["labels"]["stored"]) == (
        300,
        {"not_json": 1},
        1,
    )
    assert exact(installation, 300)


@pytest.fixture
def two(installation: StreamInstallation, kafka_bootstrap: str) -> StreamInstallation:
    """An installation whose transactions topic has two partitions."""
    kafka = installation.kafka.model_copy(
        update={"kafka_topic": installation.kafka.topic.replace("test-", "two-")}
    )
    others = [kafka.labels_topic, kafka.alerts_topic, kafka.dlq_topic]
    ensure_topics(kafka_bootstrap, [kafka.topic], partitions=2)
    ensure_topics(kafka_bootstrap, others, partitions=1)
    return replace(installation, kafka=kafka)


def test_two_share_the_partitions_and_one_leaves_with_batches_in_flight(two: StreamInstallation) -> None:
    topic = two.kafka.topic
    with following(two.installation) as stays, following(two.installation) as leaves:

        def shared() -> bool:
            return all(f.metric("fraud_stream_partitions", topic=topic) == 1 for f in (stays, leaves))

        assert eventually(shared, PATIENCE)
        two.send_keyed(creditcard_records(ids(0, 4000)))
        assert stored(two, 200)
        leaves.end()
        assert eventually(lambda: stays.metric("fraud_stream_partitions", topic=topic) == 2, PATIENCE)
        assert stored(two, 4000)
    assert exact(two, 4000)


def test_a_bounded_run_leaves_a_followers_partitions_alone(installation: StreamInstallation) -> None:
    with following(installation.installation) as follower:
        assert eventually(lambda: follower.metric("fraud_stream_partitions") == 2, PATIENCE)
        with pytest.raises(NothingToDo, match="Another consumer is at work"):
            installation.consume()
        installation.send(creditcard_records(ids(0, 50)))
        assert stored(installation, 50)
        follower.end()
    installation.send(creditcard_records(ids(50, 80)))
    assert installation.consume()["stored"] == 30
    assert exact(installation, 80)


def test_one_whose_join_does_not_end_says_so_and_tells_the_lag(installation: StreamInstallation) -> None:
    topic, group = installation.kafka.topic, installation.kafka.group
    hanging = Member(installation.kafka.kafka_bootstrap_servers, topic, group)
    with closing(hanging.member):
        # It sends heartbeats and does not poll any more: the group waits for it before it lets others in.
        poll_until(lambda: hanging.owns(0), hanging)
        installation.send(creditcard_records(ids(0, 120)))
        with following(installation.installation) as follower:
            expected = {"transactions": f"the consumer group {group}: its join is not finished"}
            assert eventually(lambda: follower.waits_for() == expected, PATIENCE)
            assert eventually(lambda: follower.metric("fraud_stream_lag_records", topic=topic) == 120, 20)
            assert follower.get("/health/ready")[0] == 503
            assert follower.metric("fraud_stream_joined", topic=topic) == 0
            hanging.member.close()
            assert stored(installation, 120)
            assert eventually(follower.ready, PATIENCE)
            assert follower.metric("fraud_stream_joined", topic=topic) == 1
            follower.end()


def test_one_without_partitions_is_ready_and_tells_the_lag(installation: StreamInstallation) -> None:
    topic = installation.kafka.topic
    with following(installation.installation) as one, following(installation.installation) as other:

        def held() -> list[float]:
            return sorted(f.metric("fraud_stream_partitions", topic=topic) for f in (one, other))

        assert eventually(lambda: held() == [0, 1] and one.ready() and other.ready(), PATIENCE)
        with locked_table(installation) as let_go:
            installation.send(creditcard_records(ids(0, 90)))
            lag = "fraud_stream_lag_records"
            assert eventually(lambda: one.metric(lag, topic=topic) == 90, PATIENCE)
            assert eventually(lambda: other.metric(lag, topic=topic) == 90, PATIENCE)
            let_go()
        assert stored(installation, 90)


def test_partitions_that_another_has_locked_are_named(installation: StreamInstallation) -> None:
    with closing(psycopg2.connect(installation.database.url("streaming"))) as holder:
        assert lock_partition(holder, installation.kafka.topic, 0)
        with following(installation.installation) as follower:
            expected = "partitions [0]: another consumer has locked them"
            assert eventually(lambda: follower.waits_for() == {"transactions": expected}, PATIENCE)
            assert follower.lanes() == {"transactions": False, "labels": True}
            holder.close()
            assert eventually(follower.ready, PATIENCE)


@contextmanager
def locked_table(installation: StreamInstallation) -> Iterator[Callable[[], None]]:
    """Nobody can store a transaction until the function given is called."""
    with closing(psycopg2.connect(installation.database.url("owner"))) as conn, conn.cursor() as cur:
        cur.execute("LOCK TABLE transactions IN EXCLUSIVE MODE")
        yield conn.rollback


def test_a_slow_database_pauses_reading_and_keeps_the_membership(installation: StreamInstallation) -> None:
    with following(installation.installation) as follower:
        assert eventually(lambda: follower.metric("fraud_stream_partitions") == 2, PATIENCE)
        with locked_table(installation) as let_go:
            installation.send(creditcard_records(ids(0, 3000)))
            paused = "fraud_stream_backpressure_total"
            # Longer than the session's time-out: a member that does not poll would have been thrown out.
            assert eventually(lambda: follower.metric(paused) >= 40, PATIENCE)
            assert follower.metric("fraud_stream_partitions") == 2
            let_go()
        assert stored(installation, 3000)
        assert follower.metric("fraud_stream_retries_total") == 0
        follower.end()
    assert exact(installation, 3000)


def test_lost_database_connections_are_replaced(installation: StreamInstallation) -> None:
    with following(installation.installation) as follower:
        for round_ in range(3):
            installation.send(creditcard_records(ids(round_ * 500, round_ * 500 + 500)))
            assert stored(installation, round_ * 500 + 100)
            installation.rows_as_admin(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'fraud-streaming%'"
            )
        assert stored(installation, 1500)
        assert eventually(lambda: follower.metric("fraud_stream_retries_total") >= 1, PATIENCE)
        follower.end()
    assert exact(installation, 1500)


def test_without_the_api_labels_go_on_and_transactions_wait(
    installation: StreamInstallation, database: Database, tmp_path: Any
) -> None:
    with scoring_server(database, tmp_path) as own:
        changed = replace(installation, api_url=own.url)
        with following(changed.installation) as follower:
            assert eventually(follower.ready, PATIENCE)
            own.stop()
            changed.send(creditcard_records(ids(0, 100)))
            changed.send_labels([{"transaction_id": "tx-1", "label": 1, "source": "analyst"}])
            assert eventually(lambda: changed.count("labels") == 1, PATIENCE)
            assert eventually(
                lambda: follower.metric("fraud_stream_retries_total", cause="ApiUnavailable") >= 1, PATIENCE
            )
            assert follower.lanes() == {"transactions": False, "labels": True}
            assert changed.count("transactions") == 0
            own.start()
            assert stored(changed, 100)
            follower.end()
        assert exact(changed, 100)


def test_it_publishes_alerts_and_judges_silence(installation: StreamInstallation) -> None:
    old = [record | {"event_time": "2020-03-01T12:00:00Z"} for record in creditcard_records(ids(0, 300))]
    installation.send(old)
    with following(installation.installation) as follower:
        assert stored(installation, 300)
        assert eventually(lambda: installation.count("alert_outbox") == 0, PATIENCE)
        follower.end()
    with following(installation.installation) as follower:
        # Nobody has reported them in the meantime; the first look is at once.
        silent = "transactions WHERE class IS NULL AND class_implied IS NULL"
        assert eventually(lambda: installation.count(silent) == 0, PATIENCE)
    decided = installation.rows("SELECT transaction_id FROM predictions WHERE decision <> 'approve'")
    assert decided
    published = [
        record.key.decode()
        for record in read_all(installation.kafka, installation.kafka.alerts_topic)
        if record.key
    ]
    assert sorted(published) == sorted(row[0] for row in decided)


def test_it_is_not_live_once_nobody_publishes_alerts_any_more(installation: StreamInstallation) -> None:
    with following(installation.installation) as follower:
        assert eventually(lambda: follower.get("/health/live")[0] == 200, PATIENCE)
        assert follower.threads() == THREADS
        follower.end()
    installation.rows("REVOKE EXECUTE ON FUNCTION refresh_classes(integer) FROM fraud_streaming")
    with following(installation.installation) as follower:
        assert eventually(follower.ready, PATIENCE), "the lanes do not need it"
        assert eventually(lambda: follower.get("/health/live")[0] == 503, PATIENCE)
        assert follower.threads() == THREADS | {"companion": False}


def test_a_hanging_database_does_not_keep_it_from_ending(installation: StreamInstallation) -> None:
    with following(installation.installation) as follower, locked_table(installation):
        installation.send(creditcard_records(ids(0, 100)))
        assert eventually(lambda: waits_for_a_lock(installation.database.url("admin")), PATIENCE)
        follower.end()
    installation.rows_as_admin(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'fraud-streaming'"
    )
    installation.consume()
    assert exact(installation, 100)


def test_a_flood_of_bad_records_stops_it_with_a_sentence(installation: StreamInstallation) -> None:
    with following(installation.installation) as follower:
        installation.send([b"{}"] * 40)
        with pytest.raises(JobFailed, match=r"cannot be processed .* correct the sender"):
            follower.ended()


def test_a_signal_ends_the_command_with_its_result(installation: StreamInstallation) -> None:
    installation.send(creditcard_records(ids(0, 100)))
    process = subprocess.Popen(
        [sys.executable, "-m", "fraud_streaming", "run", "--follow"],
        env=installation.environment() | {"STREAM_METRICS_PORT": str(free_ports(1)[0])},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert stored(installation, 100)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert '"stored": 100' in out
