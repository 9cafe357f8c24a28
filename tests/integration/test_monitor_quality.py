"""Each check of data quality, passing and failing, on real Postgres and Kafka."""

from __future__ import annotations

import argparse
import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import numpy as np
import pytest

from config.job_results.monitor import QualityResult
from config.settings import KafkaSettings
from fraud_adapters.job.failures import JobFailed
from fraud_adapters.kafka import Publisher, topic_ids
from fraud_adapters.models.mlflow_http import RegistryUnavailable
from fraud_core.batch import Batch
from fraud_core.features import feature_matrix
from fraud_monitor.job import main
from fraud_monitor.quality.verbs import quality
from tests.support.monitor_installation import MonitorInstallation, arrived, by_name, champion
from tests.support.stored_rows import CREDITCARD, Database
from tests.support.typed_results import mismatches

ROWS = 800


@pytest.fixture
def monitor(
    database: Database, topics: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MonitorInstallation]:
    monkeypatch.setenv("API_URL", "http://127.0.0.1:1")
    known = champion()
    yield MonitorInstallation(database, topics, champion=lambda: known)


def check(monitor: MonitorInstallation, run_id: str = "first") -> dict[str, Mapping[str, Any]]:
    """Run the verb; returns its checks by name."""
    return by_name(result_of(monitor, run_id)["checks"])  # type: ignore[arg-type]


def result_of(monitor: MonitorInstallation, run_id: str = "first") -> QualityResult:
    with monitor.context(run_id) as context:
        result = quality(context, argparse.Namespace())
    assert list(mismatches(QualityResult, json.loads(json.dumps(result)))) == []
    return result


def publish(monitor: MonitorInstallation, rows: Batch, *others: bytes) -> int:
    """Send the records of a batch, and further ones; returns how many."""
    values = [json.dumps({"transaction_id": name}).encode() for name in rows.ids] + list(others)
    with Publisher(monitor.kafka.bootstrap_servers) as publisher:
        for value in values:
            publisher.send(monitor.kafka.topic, value[:40], value)
        publisher.flush()
    return len(values)


def move_position(monitor: MonitorInstallation, to: int, age: timedelta = timedelta()) -> str:
    """As the consumer would; returns the topic's id."""
    topic = monitor.kafka.topic
    topic_id = topic_ids(monitor.kafka.bootstrap_servers, [topic])[topic]
    monitor.rows(
        "INSERT INTO stream_offsets (topic, partition, topic_id, next_offset, updated_at)"
        " VALUES (%s, 0, %s, %s, now() - %s) ON CONFLICT (topic, partition) DO UPDATE"
        " SET next_offset = excluded.next_offset, updated_at = excluded.updated_at RETURNING 1",
        topic, topic_id, to, age,
    )  # fmt: skip
    return topic_id


def dead_letter(monitor: MonitorInstallation, offset: int, topic_id: str, reason: str) -> None:
    monitor.rows(
        "INSERT INTO dead_letters (topic, topic_id, partition, record_offset, payload_bytes, reason)"
        " VALUES (%s, %s, 0, %s, 3, %s) RETURNING 1",
        monitor.kafka.topic, topic_id, offset, reason,
    )  # fmt: skip


def test_a_healthy_hour_passes_and_every_outcome_is_stored(monitor: MonitorInstallation) -> None:
    rows = arrived(ROWS)
    monitor.decide(rows)
    for day in (1, 2, 3):
        monitor.decide(arrived(ROWS, seed=10 + day))
        monitor.move_arrivals(timedelta(days=day), f"transaction_id LIKE 'm{10 + day}-%%'")
    move_position(monitor, publish(monitor, rows))
    result = result_of(monitor)
    found = by_name(result["checks"])  # type: ignore[arg-type]
    unjudged = {"pipeline_dags", "pipeline_durations"}
    assert {name for name, one in found.items() if one["status"] == "insufficient"} == unjudged
    assert {name for name, one in found.items() if one["status"] == "failed"} == {"pipeline_api"}
    assert {one["status"] for name, one in found.items() if name not in {*unjudged, "pipeline_api"}} == {
        "passed"
    }
    assert "800 rows have all 30 features of the contract, as the champion" in found["schema"]["sentence"]
    assert "800 are stored and decided, 0 are dead letters" in found["completeness"]["sentence"]
    assert (result["severity"], result["title"]) == ("medium", "Data quality: pipeline_api")
    stored = monitor.rows("SELECT check_name, status, severity, run_id, sentence FROM quality_reports")
    assert {row[0]: row[1] for row in stored} == {name: one["status"] for name, one in found.items()}
    assert {row[3] for row in stored} == {"first"}
    # A retry of the run replaces its rows.
    check(monitor)
    assert monitor.rows("SELECT count(*) FROM quality_reports") == [(len(found),)]


def test_without_any_transaction_nothing_passes(monitor: MonitorInstallation) -> None:
    result = result_of(monitor)
    found = by_name(result["checks"])  # type: ignore[arg-type]
    assert {name for name, one in found.items() if one["status"] == "passed"} == {"kafka_lag"}
    assert {name for name, one in found.items() if one["status"] == "failed"} == {"pipeline_api"}
    assert result["counts"]["insufficient"] == len(found) - 2


@pytest.mark.parametrize("rows", [1, 20])
def test_a_handful_of_rows_has_no_distribution(monitor: MonitorInstallation, rows: int) -> None:
    monitor.decide(arrived(rows))
    found = check(monitor)
    for name in ("missing_values", "outliers", "distribution_shift", "anomalies", "volume"):
        assert found[name]["status"] == "insufficient", found[name]
    assert found["schema"]["status"] == "passed"
    assert found["freshness"]["status"] == "passed"


def test_missing_shifted_and_unusual_values_fail(monitor: MonitorInstallation) -> None:
    rows = arrived(ROWS)
    vectors = feature_matrix(CREDITCARD, rows)
    vectors[:, 3] = np.nan
    vectors[:, 4] = 0.25
    vectors[:100, 5:25] += 60
    monitor.decide(rows, vectors=vectors)
    found = check(monitor)
    for name, part in {
        "missing_values": "Missing in v4: the most are 100 %",
        "outliers": "Outliers in v",
        "distribution_shift": "shifted (v",
        "anomalies": "% of 800 rows lie beyond the distance that 1 % of the reference's rows exceed",
    }.items():
        assert (found[name]["status"], part in found[name]["sentence"]) == ("failed", True), found[name]


def test_rows_of_another_contract_or_width_fail_the_schema(monitor: MonitorInstallation) -> None:
    monitor.decide(arrived(30))
    assert check(monitor)["schema"]["status"] == "passed"
    monitor.rows("UPDATE transactions SET v3 = NULL WHERE transaction_id IN ('m1-1', 'm1-2') RETURNING 1")
    monitor.rows("UPDATE transactions SET contract = 'other/1' WHERE transaction_id = 'm1-3' RETURNING 1")
    monitor.rows("UPDATE transactions SET amount = -5 WHERE transaction_id = 'm1-4' RETURNING 1")
    monitor.rows("UPDATE predictions SET feature_vector = '{1}' WHERE transaction_id = 'm1-5' RETURNING 1")
    result = result_of(monitor, "second")
    sentence = by_name(result["checks"])["schema"]["sentence"]  # type: ignore[arg-type]
    for part in (
        "1 row of another contract", "2 rows of v3 without a value", "1 row of amount out of its range",
        "1 row of another number of features than 30",
    ):  # fmt: skip
        assert part in sentence
    assert result["severity"] == "high"
    assert result["text"].startswith("schema (high): ")


def test_volume_is_compared_with_the_same_hours_of_earlier_days(monitor: MonitorInstallation) -> None:
    for day in (1, 2, 3, 4):
        monitor.decide(arrived(200, seed=10 + day))
        monitor.move_arrivals(timedelta(days=day), f"transaction_id LIKE 'm{10 + day}-%%'")
    empty = check(monitor)
    assert (empty["volume"]["status"], empty["freshness"]["status"]) == ("failed", "failed")
    assert (
        "0 rows arrived, the same hours of 4 earlier days had 200 in the median"
        in empty["volume"]["sentence"]
    )
    monitor.decide(arrived(60))
    assert check(monitor, "second")["volume"]["status"] == "failed"
    monitor.decide(arrived(120, seed=2))
    assert check(monitor, "third")["volume"]["status"] == "passed"
    monitor.decide(arrived(150, seed=3))
    assert check(monitor, "fourth")["volume"]["status"] == "warned"


def test_a_clock_that_is_ahead_and_late_events_are_seen(monitor: MonitorInstallation) -> None:
    monitor.decide(arrived(100))
    assert check(monitor)["clock_skew"]["status"] == "passed"
    monitor.decide(arrived(30, seed=2, event_time=datetime.now(UTC) + timedelta(minutes=10)))
    monitor.decide(arrived(20, seed=3, event_time=datetime.now(UTC) - timedelta(days=1)))
    skewed = check(monitor, "second")["clock_skew"]
    assert skewed["status"] == "failed"
    assert (
        "30 happened more than 1 min after they arrived (a clock is ahead), 20 more than 6 h before"
        in skewed["sentence"]
    )


def test_what_was_consumed_and_is_nowhere_is_lost(monitor: MonitorInstallation) -> None:
    rows = arrived(40)
    monitor.decide(rows.take(range(38)))
    again = json.dumps({"transaction_id": rows.ids[0]}).encode()
    sent = publish(monitor, rows, b"not JSON", again)
    topic_id = move_position(monitor, sent)
    dead_letter(monitor, 40, topic_id, "not_json")
    result = result_of(monitor)
    found = by_name(result["checks"])  # type: ignore[arg-type]
    assert found["completeness"]["status"] == "failed"
    assert (
        f"2 of 42 records before the position are neither stored nor dead letters ({rows.ids[38]}"
        in (found["completeness"]["sentence"])
    )
    assert "2.38 % of 42 records came again" in found["duplicates"]["sentence"]
    assert "1 of 39 records could not be processed: not_json 1" in found["dead_letters"]["sentence"]
    assert (found["conflicting_ids"]["status"], result["severity"]) == ("passed", "high")
    monitor.decide(rows.take(range(38, 40)))
    assert check(monitor, "second")["completeness"]["status"] == "passed"
    # Without a decision.
    monitor.rows("DELETE FROM predictions WHERE transaction_id = %s RETURNING 1", rows.ids[7])
    undecided = check(monitor, "third")["completeness"]
    assert "1 of 40 rows of the window have no decision" in undecided["sentence"]


def test_repeated_records_dead_letters_and_conflicts_fail(monitor: MonitorInstallation) -> None:
    rows = arrived(100)
    monitor.decide(rows)
    again = [json.dumps({"transaction_id": name}).encode() for name in rows.ids[:30]]
    topic_id = move_position(monitor, publish(monitor, rows, *again))
    for offset in range(200, 230):
        dead_letter(monitor, offset, topic_id, "id_conflict")
    found = check(monitor)
    for name in ("duplicates", "dead_letters", "conflicting_ids"):
        assert found[name]["status"] == "failed", found[name]
    assert (
        "30 records had the id of a stored transaction with other fields"
        in found["conflicting_ids"]["sentence"]
    )


def test_lag_and_a_position_that_stands_still_fail(monitor: MonitorInstallation) -> None:
    monitor.with_parameters(
        "quality", lag=monitor.parameters.quality.lag.model_copy(update={"fail": 50, "warn": 20})
    )
    rows = arrived(60)
    monitor.decide(rows)
    sent = publish(monitor, rows)
    move_position(monitor, sent)
    assert check(monitor)["kafka_lag"]["status"] == "passed"
    move_position(monitor, 4, timedelta(hours=1))
    found = check(monitor, "second")
    assert (found["kafka_lag"]["status"], found["kafka_lag"]["value"]) == ("failed", 56)
    assert found["pipeline_position"]["status"] == "failed"
    assert "the position has not moved for 3,60" in found["pipeline_position"]["sentence"]


def test_a_source_that_does_not_answer_leaves_the_others_judged(monitor: MonitorInstallation) -> None:
    def unreachable() -> None:
        raise RegistryUnavailable("MLflow at http://mlflow:5000 does not answer (ConnectError).")

    monitor.decide(arrived(ROWS))
    monitor.kafka = KafkaSettings(kafka_bootstrap_servers="127.0.0.1:1")
    monitor.champion = unreachable
    monitor.rows("REVOKE SELECT ON dead_letters FROM fraud_monitor")
    result = result_of(monitor)
    found = by_name(result["checks"])  # type: ignore[arg-type]
    assert (found["schema"]["status"], found["freshness"]["status"]) == ("passed", "passed")
    assert found["pipeline_position"]["status"] == "failed"
    assert "Kafka cannot be reached" in found["pipeline_position"]["sentence"]
    for name in (
        "completeness",
        "kafka_lag",
        "missing_values",
        "anomalies",
        "dead_letters",
        "conflicting_ids",
    ):
        assert found[name]["status"] == "insufficient", found[name]
    assert "MLflow at http://mlflow:5000 does not answer" in found["outliers"]["sentence"]
    assert "permission denied" in found["dead_letters"]["sentence"]


class MlflowWithoutItsStore(BaseHTTPRequestHandler):
    """It names the champion; fetching a file fails, as it does while its object store is away."""

    def do_GET(self) -> None:
        found = {"model_version": {"version": "7"}, "artifact_uri": "mlflow-artifacts:/1/7/artifacts"}
        is_file = "mlflow-artifacts" in self.path
        body = b"" if is_file else json.dumps(found).encode()
        self.send_response(500 if is_file else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """What is asked is of no interest."""


def test_without_the_object_store_only_what_needs_the_reference_has_no_verdict(
    monitor: MonitorInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole job, from its settings on."""
    monitor.decide(arrived(ROWS))
    monitor.rows(
        "INSERT INTO model_versions (name, version, contract, digest, gate_policy, gate_passed, gate_outcome,"
        " metrics, threshold, block_threshold) VALUES ('fraud-creditcard', '7', 'creditcard/1',"
        " repeat('0', 64), 'specification', true, '{}', '{}', 0.5, 0.9) RETURNING 1"
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), MlflowWithoutItsStore)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    mlflow = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "DATABASE_URL": monitor.database.url("monitor"),
        "KAFKA_BOOTSTRAP_SERVERS": monitor.kafka.kafka_bootstrap_servers,
        "KAFKA_TOPIC": monitor.kafka.topic,
        "MLFLOW_TRACKING_URI": mlflow,
        "MLFLOW_TRACKING_USERNAME": "monitor",
        "MLFLOW_TRACKING_PASSWORD": "a-password-of-its-own",
        "S3_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        result = cast(QualityResult, main(["quality", "--run-id", "first"]))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    found = by_name(result["checks"])  # type: ignore[arg-type]
    for name in ("missing_values", "outliers", "distribution_shift", "anomalies"):
        assert found[name]["status"] == "insufficient"
        assert found[name]["sentence"].startswith(f"MLflow at {mlflow} answered 500 to ")
    assert {found[name]["status"] for name in ("schema", "freshness", "kafka_lag")} == {"passed"}
    stored = dict(monitor.rows("SELECT check_name, status FROM quality_reports"))
    assert stored == {name: one["status"] for name, one in found.items()}
    # What cannot work without it says so at once.
    with pytest.raises(JobFailed, match="object store"):
        main(["performance", "--run-id", "first"])


def test_a_champion_without_profile_is_named(monitor: MonitorInstallation) -> None:
    bare = replace(champion(), profile=None, problem="The champion, version 7, has no reference profile.")
    monitor.champion = lambda: bare
    monitor.decide(arrived(ROWS))
    found = check(monitor)
    assert found["schema"]["status"] == "passed"
    assert found["anomalies"]["sentence"] == "The champion, version 7, has no reference profile."


def test_a_check_without_a_verdict_for_long_alerts(monitor: MonitorInstallation) -> None:
    monitor.with_parameters("quality", insufficient_windows=3)
    texts = [result_of(monitor, f"run {number}")["text"] for number in range(3)]
    assert "no verdict" not in texts[1]
    assert "schema: no verdict for 3 runs in a row" in texts[2]
    assert "volume: no verdict" not in texts[2], "a new installation needs nothing but time"
    monitor.decide(arrived(5))
    result_of(monitor, "run 3")
    assert "schema: no verdict" not in result_of(monitor, "run 4")["text"]


def test_a_run_of_a_dag_that_takes_long_or_fails_is_seen(monitor: MonitorInstallation) -> None:
    def task(
        run_id: str, seconds: float, ended: timedelta, state: str = "success", task_id: str = "work"
    ) -> None:
        monitor.rows(
            "INSERT INTO airflow_task_metrics (dag_id, task_id, run_id, state, started_at, ended_at)"
            " VALUES ('01_training_pipeline', %s, %s, %s, now() - %s - %s, now() - %s) RETURNING 1",
            task_id, run_id, state, ended, timedelta(seconds=seconds), ended,
        )  # fmt: skip

    for number in range(8):
        task(f"earlier {number}", 100 + number, timedelta(hours=3 + number))
    task("latest", 120, timedelta(minutes=5))
    found = check(monitor)
    assert (found["pipeline_durations"]["status"], found["pipeline_dags"]["status"]) == ("passed", "passed")
    # A run that skipped its work is not compared with those that did it.
    task("skipped", 1, timedelta(minutes=4), "skipped")
    task("skipped", 400, timedelta(minutes=4), task_id="skip")
    assert check(monitor, "second")["pipeline_durations"]["status"] == "passed"
    task("slow", 400, timedelta(minutes=2))
    slow = check(monitor, "third")["pipeline_durations"]
    assert slow["status"] == "failed"
    assert "A run of 01_training_pipeline took 400 s, 3.86 times the usual 104 s." in slow["sentence"]
    for number in range(6):
        task(f"broken {number}", 100, timedelta(minutes=1), "failed")
    assert check(monitor, "fourth")["pipeline_dags"]["status"] == "failed"


def test_history_that_is_loaded_does_not_count(monitor: MonitorInstallation) -> None:
    monitor.decide(arrived(50, prefix=f"h{uuid.uuid4().hex[:6]}"), source="simulator")
    found = check(monitor)
    assert found["freshness"]["status"] == "insufficient"
    assert found["volume"]["rows"] == 0
