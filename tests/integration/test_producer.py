"""The producer's verbs against a real broker and a real database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.job_results.producer import (
    BackfillResult,
    DriftSwitchResult,
    GenerateResult,
    HistoryNeedlessResult,
    HistoryResult,
    LabelsResult,
    OptimumResult,
    ReplayResult,
    SteadyResult,
)
from config.settings import ConfigurationError, KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import PartitionReader, PublishError, Record
from fraud_adapters.postgres import connect
from fraud_airflow import summaries
from fraud_core.labels import LabelEvent, parse_label
from fraud_core.records import RecordParser
from fraud_producer import __main__ as cli
from fraud_producer import publishing
from tests.support.kaggle_files import KAGGLE, kaggle_rows, write_csv, write_parquet
from tests.support.stored_rows import CREDITCARD, Database, run
from tests.support.typed_results import mismatches
from tests.support.waiting import eventually

Producer = Callable[..., Mapping[str, Any]]


RESULTS: dict[str, list[Any]] = {
    "generate": [GenerateResult, SteadyResult],
    "labels": [LabelsResult],
    "replay": [ReplayResult],
    "backfill": [BackfillResult],
    "history": [HistoryResult, HistoryNeedlessResult],
    "optimum": [OptimumResult],
    "drift": [DriftSwitchResult],
}


def written(result: Any) -> Any:
    """A result as whoever starts the job reads it."""
    return json.loads(json.dumps(result, default=str))


@pytest.fixture
def produce(database: Database, topics: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> Producer:
    """Runs a verb with the producer's own role."""
    monkeypatch.setenv("DATABASE_URL", database.url("producer"))
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", topics.kafka_bootstrap_servers)
    monkeypatch.setenv("KAFKA_TOPIC", topics.topic)
    monkeypatch.setenv("APP_ENV", "testing")

    def run_verb(verb: str, *arguments: object) -> Any:
        result = cli.main([verb, *map(str, arguments)])
        kinds = RESULTS[verb]
        assert any(not list(mismatches(kind, written(result))) for kind in kinds), (kinds, result)
        return result

    return run_verb


def records(topics: KafkaSettings, topic: str) -> list[Record]:
    with PartitionReader(topics.bootstrap_servers, topic, client_id="test") as reader:
        reader.assign(dict.fromkeys(reader.partitions(), 0))
        received: list[Record] = []
        for _ in range(100):
            received += reader.poll(5000, timeout_s=1)
            if reader.drained():
                return received
    raise AssertionError("not drained")


def reported(topics: KafkaSettings) -> list[LabelEvent]:
    events = [parse_label(r.value, datetime.now(UTC)) for r in records(topics, topics.labels_topic)]
    assert all(isinstance(event, LabelEvent) for event in events)
    return [event for event in events if isinstance(event, LabelEvent)]


def make_all_due(database: Database) -> None:
    run(
        database.url("owner"),
        "UPDATE simulated_labels SET due_at = due_at - interval '1 day' WHERE sent_at IS NULL",
    )


def test_generate_sends_transactions_and_keeps_their_truth(
    produce: Producer, database: Database, topics: KafkaSettings
) -> None:
    before = datetime.now(UTC)
    result = produce("generate", "--count", 50, "--run-id", "r1")
    sent = records(topics, topics.topic)
    assert result["transactions"] == len(sent) == 50
    assert summaries.producer(json.loads(json.dumps(result))) == [
        f"50 transactions ({result['frauds']} fraudulent) and 0 labels published to {topics.topic}."
    ]
    parsed = RecordParser(CREDITCARD).parse([r.value for r in sent], [before] * 50)
    assert parsed.rejected == []
    assert all(before <= moment <= datetime.now(UTC) for moment in parsed.batch.event_times)
    assert [r.key for r in sent] == [identifier.encode() for identifier in parsed.batch.ids]
    assert {r.headers["schema"] for r in sent} == {b"creditcard/1"}
    assert "class" not in parsed.batch.columns
    truth = run(
        database.url("owner"), "SELECT transaction_id, label, due_at > now(), sent_at FROM simulated_labels"
    )
    assert {row[0] for row in truth} == set(parsed.batch.ids)
    assert sum(row[1] for row in truth) == result["frauds"]
    assert run(database.url("owner"), "SELECT count(*) FROM transactions") == [(0,)], (
        "the consumer stores them"
    )


def test_a_retried_run_sends_the_very_same_bytes(
    produce: Producer, database: Database, topics: KafkaSettings
) -> None:
    produce("generate", "--count", 20, "--run-id", "r1")
    produce("generate", "--count", 20, "--run-id", "r1")
    produce("generate", "--count", 25, "--run-id", "r1")
    sent = [(r.key, r.value, r.headers) for r in records(topics, topics.topic)]
    assert len(sent) == 65
    assert sent[:20] == sent[20:40] == sent[40:60]
    assert run(database.url("owner"), "SELECT count(*) FROM simulated_labels") == [(25,)]


def test_a_run_has_one_time(produce: Producer, topics: KafkaSettings) -> None:
    produce("generate", "--count", 3, "--run-id", "r1", "--at", "2026-02-03T04:05:06Z")
    produce("generate", "--count", 3, "--run-id", "r1")
    times = {json.loads(r.value)["event_time"] for r in records(topics, topics.topic)}
    assert times == {f"2026-02-03T04:05:06{tail}Z" for tail in ("", ".000001", ".000002")}
    with pytest.raises(JobFailed, match="was generated for 2026-02-03T04:05:06"):
        produce("generate", "--count", 3, "--run-id", "r1", "--at", "2026-02-03T04:05:07Z")


def test_it_goes_on_until_told_to_stop(database: Database, topics: KafkaSettings) -> None:
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "APP_ENV": "testing",
        "DATABASE_URL": database.url("producer"),
        "KAFKA_BOOTSTRAP_SERVERS": topics.kafka_bootstrap_servers,
        "KAFKA_TOPIC": topics.topic,
    }
    command = [sys.executable, "-m", "fraud_producer", "generate", "--every", "0.2s", "--count", "7"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as producer:
        try:
            assert eventually(lambda: bool(reported(topics)), 60)
            producer.send_signal(signal.SIGTERM)
            result = json.loads(producer.communicate(timeout=60)[0])
        finally:
            producer.kill()
    assert producer.returncode == 0
    sent = records(topics, topics.topic)
    assert len(sent) == result["transactions"] == 7 * result["runs"] > 7
    assert len({record.key for record in sent}) == len(sent)
    assert len(reported(topics)) == result["labels_sent"]


def test_drift_that_is_switched_on_is_followed_until_it_is_off(
    produce: Producer, topics: KafkaSettings, database: Database
) -> None:
    def amounts(run_id: str) -> list[float]:
        before = len(records(topics, topics.topic))
        produce("generate", "--count", 200, "--run-id", run_id)
        return [json.loads(record.value)["amount"] for record in records(topics, topics.topic)[before:]]

    assert produce("drift")["drift"] == []
    plain = amounts("one")
    assert produce("drift", "amount-scale=1.5", "fraud-rate=0.5")["drift"] == [
        "amount-scale=1.5",
        "fraud-rate=0.5",
    ]
    # A retry of an earlier run is what it was, whatever has been switched on since.
    assert amounts("one") == plain
    scaled = amounts("two")
    assert np.median(scaled) > 1.8 * np.median(plain)
    assert produce("drift", "off")["drift"] == []
    assert np.median(amounts("three")) < 1.4 * np.median(plain)
    with pytest.raises(SystemExit):
        produce("drift", "off", "amount-scale=1")
    with pytest.raises(JobFailed, match="amount-scale must be above -1"):
        produce("drift", "amount-scale=-3")
    kinds = run(database.url("readonly"), "SELECT kinds FROM simulated_drift ORDER BY switched_at")
    assert [len(row[0]) for row in kinds] == [2, 0]


def test_two_runs_differ(produce: Producer, topics: KafkaSettings) -> None:
    produce("generate", "--count", 10)
    produce("generate", "--count", 10)
    assert len({r.key for r in records(topics, topics.topic)}) == 20


def test_labels_follow_when_they_are_due_and_once(
    produce: Producer, database: Database, topics: KafkaSettings
) -> None:
    produce("generate", "--count", 30, "--run-id", "r1", "--at", datetime.now(UTC).isoformat())
    make_all_due(database)
    result = produce("generate", "--count", 5, "--run-id", "r2")
    assert result["labels_sent"] == 30
    assert produce("labels")["labels_sent"] in range(6)
    events = {event.transaction_id: event for event in reported(topics)}
    truth = run(
        database.url("owner"),
        "SELECT transaction_id, label, due_at FROM simulated_labels WHERE sent_at IS NOT NULL",
    )
    assert {(e.transaction_id, e.label, e.reported_at) for e in events.values()} == set(truth)
    assert {e.source for e in events.values()} == {"simulator"}


def test_labels_that_were_not_acknowledged_are_sent_again(
    produce: Producer, database: Database, topics: KafkaSettings
) -> None:
    class Broken:
        def send(self, *arguments: object) -> None:
            pass

        def flush(self) -> None:
            raise PublishError("the broker is gone")

    produce("generate", "--count", 10, "--run-id", "r1")
    make_all_due(database)
    now = datetime.now(UTC)
    with closing(connect(database.url("producer"), "test")) as connection, pytest.raises(PublishError):
        publishing.publish_due_labels(connection, Broken(), "t", now)
    assert run(database.url("owner"), "SELECT count(sent_at) FROM simulated_labels") == [(0,)]
    assert produce("labels")["labels_sent"] == 10


def test_the_optimum_is_kept_for_each_population(produce: Producer, database: Database) -> None:
    first = produce("generate", "--count", 1)["optimum"]
    again = produce("generate", "--count", 1)["optimum"]
    drifted = produce("generate", "--count", 1, "--drift", "feature-shift=1.0")["optimum"]
    assert first == again
    assert drifted["population"] != first["population"]
    stored: dict[str, Any] = dict(run(database.url("owner"), "SELECT population, optimum FROM simulations"))
    assert stored == {first["population"]: first, drifted["population"]: drifted}


class TestBackfill:
    def test_history_is_written_once(self, produce: Producer, database: Database) -> None:
        result = produce("backfill", "--days", 4, "--per-day", 300)
        assert result["transactions"] == 1200
        again = produce("backfill", "--days", 4, "--per-day", 300)
        assert (again["transactions"], again["labels"], again["days_already_there"]) == (0, 0, 4)
        url = database.url("owner")
        rows = run(
            url,
            "SELECT count(*), min(event_time), max(event_time), count(DISTINCT event_time::date),"
            " count(*) FILTER (WHERE source = 'simulator' AND contract = 'creditcard/1') FROM transactions",
        )
        count, first, last, days, from_history = rows[0]
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        assert (count, days, from_history) == (1200, 4, 1200)
        assert today - timedelta(days=4) <= first < last < today

    def test_truth_that_is_due_is_in_the_ledger(self, produce: Producer, database: Database) -> None:
        # The delay in testing is a second: all of it is due.
        result = produce("backfill", "--days", 2, "--per-day", 500)
        url = database.url("owner")
        assert result["labels"] == 1000
        assert run(url, "SELECT count(*), sum(label) FROM labels") == [(1000, result["frauds"])]
        assert run(url, "SELECT count(*) FROM simulated_labels WHERE sent_at IS NULL") == [(0,)]
        wrong = "SELECT count(*) FROM transactions t JOIN simulated_labels s USING (transaction_id)"
        assert run(url, f"{wrong} WHERE t.class IS DISTINCT FROM s.label") == [(0,)]
        assert 20 < result["frauds"] < 85
        assert produce("labels")["labels_sent"] == 0

    def test_truth_that_is_not_due_waits(
        self, produce: Producer, database: Database, topics: KafkaSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("APP_ENV", "production")  # a delay of a week
        result = produce("backfill", "--days", 12, "--per-day", 100)
        url = database.url("owner")
        waiting = run(url, "SELECT count(*) FROM simulated_labels WHERE sent_at IS NULL AND due_at > now()")
        assert 0 < waiting[0][0] < 1200
        assert result["labels"] == 1200 - waiting[0][0]
        assert run(url, "SELECT count(*) FROM labels") == [(1200 - waiting[0][0],)]
        run(url, "UPDATE simulated_labels SET due_at = now() WHERE sent_at IS NULL")
        assert produce("labels")["labels_sent"] == waiting[0][0]
        assert len(reported(topics)) == waiting[0][0]

    def test_more_a_day_adds_only_the_rest(self, produce: Producer, database: Database) -> None:
        produce("backfill", "--days", 1, "--per-day", 100)
        assert produce("backfill", "--days", 1, "--per-day", 150)["transactions"] == 50

    def test_a_new_installation_gets_its_history_once(self, produce: Producer, database: Database) -> None:
        first = produce("history", "--days", 2, "--per-day", 100)
        assert (first["written"], first["transactions"]) == (True, 200)
        again = produce("history", "--days", 2, "--per-day", 100)
        assert (again["written"], again["reason"]) == (
            False,
            "There are 200 transactions with a known class.",
        )
        # What was interrupted is completed.
        assert produce("history", "--days", 3, "--per-day", 100)["transactions"] == 100

    def test_nothing_is_simulated_among_real_transactions(
        self, produce: Producer, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("APP_ENV", "production")
        with pytest.raises(ConfigurationError, match="APP_ENV is production"):
            produce("history", "--days", 1, "--per-day", 10)
        monkeypatch.setenv("APP_ENV", "testing")
        produce("history", "--days", 1, "--per-day", 10)
        run(database.url("owner"), "DELETE FROM simulated_labels")
        refused = produce("history", "--days", 1, "--per-day", 20)
        assert "were not simulated" in refused["reason"]
        assert run(database.url("owner"), "SELECT count(*) FROM transactions") == [(10,)]

    def test_the_stored_values_are_those_simulated(self, produce: Producer, database: Database) -> None:
        produce("backfill", "--days", 1, "--per-day", 50)
        rows = run(database.url("owner"), "SELECT event_time, time, v1, amount FROM transactions")
        for moment, clock, v1, amount in rows:
            start = datetime(moment.year, 1, 1, tzinfo=UTC)
            assert abs(float(clock) - (moment - start).total_seconds()) < 0.006
            assert v1 == round(v1, 6)
            assert amount >= 0


class TestReplay:
    def test_a_file_is_sent_and_its_class_told_later(
        self, produce: Producer, database: Database, topics: KafkaSettings, tmp_path: Path
    ) -> None:
        header = [*KAGGLE, "weight"]
        path = write_parquet(tmp_path / "x.parquet", header, [[*row, 7.9] for row in kaggle_rows(1500)])
        result = produce("replay", "--file", path, "--speed", 0, "--start", "2026-01-05T00:00:00Z")
        assert result["transactions"] == 1500
        assert result["columns_ignored"] == ["weight"]
        sent = records(topics, topics.topic)
        parsed = RecordParser(CREDITCARD).parse([r.value for r in sent], [datetime.now(UTC)] * len(sent))
        assert parsed.rejected == []
        assert parsed.batch.event_times[10] == datetime(2026, 1, 5, 0, 0, 10, tzinfo=UTC)
        assert np.array_equal(np.sort(parsed.batch.columns["time"]), np.arange(1500))
        assert "class" not in parsed.batch.columns
        assert produce("labels")["labels_sent"] == 1500
        assert sum(event.label for event in reported(topics)) == 750
        # Sent again: the same ids, so nothing is told twice.
        produce("replay", "--file", path, "--speed", 0, "--start", "2026-01-05T00:00:00Z")
        assert produce("labels")["labels_sent"] == 0
        again = records(topics, topics.topic)[1500:]
        assert [(r.key, r.value) for r in again] == [(r.key, r.value) for r in sent]

    def test_with_class_needs_no_database(
        self, produce: Producer, topics: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:x@127.0.0.1:1/none")
        path = write_csv(tmp_path / "x.csv", KAGGLE, kaggle_rows(12))
        produce("replay", "--file", path, "--speed", 0, "--with-class", "--limit", 10)
        assert [json.loads(r.value)["class"] for r in records(topics, topics.topic)] == [0, 1] * 5

    def test_a_bad_row_says_what_was_sent(
        self, produce: Producer, topics: KafkaSettings, tmp_path: Path
    ) -> None:
        rows = kaggle_rows(1300)
        rows[1200][5] = "x"
        path = write_csv(tmp_path / "x.csv", KAGGLE, rows)
        with pytest.raises(
            JobFailed,
            match=r"row 1201: v5: is not a number: [^.]*1234\.5, [a-z ]*\. Sent before that: 1000 trans",
        ):
            produce("replay", "--file", path, "--speed", 0, "--no-labels")
        assert len(records(topics, topics.topic)) == 1000


def test_no_broker_is_one_sentence(produce: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    with pytest.raises(JobFailed, match="KAFKA_BOOTSTRAP_SERVERS"):
        produce("generate", "--count", 1)


def test_no_database_is_one_sentence(produce: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:x@127.0.0.1:1/none")
    with pytest.raises(JobFailed, match="Postgres is not available"):
        produce("generate", "--count", 1)
