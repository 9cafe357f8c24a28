"""What a run's last task writes down."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest

from config.constants import POOL_REAL_TIME
from config.job_results.producer import GenerateResult
from config.job_results.streaming import RunResult, TopicResult
from fraud_airflow import completion
from fraud_airflow.alerting import configuration
from fraud_airflow.alerting.alert import Alert
from fraud_airflow.defaults import dag_defaults, real_time

LABELS: TopicResult = {
    "consumed": 7,
    "stored": 6,
    "replayed": 0,
    "dead_lettered": {"unknown_field": 1},
    "batches": 1,
    "seconds": 0.1,
    "latency_ms": None,
    "lag": 7,
}
STREAMED: RunResult = {
    "status": "done",
    "consumed": 56,
    "stored": 50,
    "replayed": 2,
    "dead_lettered": {"unreadable": 4},
    "batches": 1,
    "seconds": 0.5,
    "latency_ms": {"p50": 812.4, "p99": 950.0},
    "lag": 3,
    "labels": LABELS,
    "classes_refreshed": 0,
    "alerts_published": 8,
    "stalled_holders_ended": [],
}
GENERATED: GenerateResult = {
    "run_id": "r1",
    "topic": "the-transactions",
    "event_time": "2026-01-01T00:00:00+00:00",
    "transactions": 50,
    "frauds": 3,
    "labels_sent": 7,
    "drift": [],
    "optimum": {
        "population": "p1",
        "fraud_rate": 0.02,
        "overlap": 0.01,
        "recall": 0.99,
        "fpr": 0.001,
        "precision": 0.97,
        "f1": 0.98,
        "roc_auc": 0.999,
        "average_precision": 0.99,
        "threshold": 3.0,
        "bounds": {"recall": 0.95},
        "reachable": True,
        "sample": 300_000,
    },
}


class Told:
    """A notifier that only notes what it is to tell."""

    def __init__(self) -> None:
        self.alerts: list[Alert] = []
        self.resolved: list[str] = []

    def alert(self, alert: Alert) -> list[str]:
        self.alerts.append(alert)
        return []

    def resolve(self, key: str) -> list[str]:
        self.resolved.append(key)
        return []


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told()
    monkeypatch.setattr(configuration, "notifier", lambda: made)
    return made


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fraud_airflow")


LIMITS: Any = {"task_timeout": timedelta(seconds=90), "run_timeout": timedelta(minutes=5)}


def test_a_producer_run_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    completion.producer(GENERATED)
    assert caplog.messages == ["50 transactions (3 fraudulent) and 7 labels published to the-transactions."]


def test_a_streaming_run_in_figures(caplog: pytest.LogCaptureFixture) -> None:
    completion.streaming(STREAMED)
    line, latency = caplog.messages
    for figure in ("50 transactions stored", "2 known", "lag 3", "6 labels", "lag 7", "5 dead", "8 alerts"):
        assert figure in line
    assert "p50 812 ms, p99 950 ms" in latency


def test_a_run_that_stored_nothing_has_no_latency(caplog: pytest.LogCaptureFixture) -> None:
    completion.streaming({**STREAMED, "latency_ms": None})
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("lag", [None, 9])
def test_a_lag_that_nobody_knows_does_not_cost_the_line(
    caplog: pytest.LogCaptureFixture, lag: int | None
) -> None:
    completion.streaming({**STREAMED, "lag": lag, "labels": {**LABELS, "lag": None}})
    assert f"lag {lag or 'unknown'}; 6 labels stored, lag unknown" in caplog.messages[0]


def test_a_consumer_that_stood_still_is_told_until_the_next_run(told: Told) -> None:
    completion.streaming({**STREAMED, "stalled_holders_ended": ["the-transactions/0"]})
    (alert,) = told.alerts
    assert (alert.key, alert.severity) == (completion.STALLED, "high")
    assert "the-transactions/0" in alert.text
    assert not told.resolved
    completion.streaming(STREAMED)
    assert told.resolved == [completion.STALLED]


def test_a_skipped_job_hands_on_nothing(caplog: pytest.LogCaptureFixture) -> None:
    completion.producer(None)
    completion.streaming(None)
    assert caplog.messages == [
        "Nothing was produced.",
        "Another consumer is at work: there was nothing to do.",
    ]


def test_a_renewed_token_is_described(caplog: pytest.LogCaptureFixture) -> None:
    completion.token({"client_id": "airflow", "key_id": "k1", "expires_at": "2026-01-02T00:00:00Z"})
    assert caplog.messages == ["The token of airflow, signed by key k1, is good until 2026-01-02T00:00:00Z."]


def test_a_dag_may_change_its_tasks_and_keeps_the_rest() -> None:
    made = dag_defaults(["security"], paused=False, **LIMITS, retries=4)
    assert made["default_args"]["retries"] == 4
    assert made["default_args"]["owner"] == "ml-platform"
    assert made["tags"] == ["fraud", "security"]
    assert "pool" not in made["default_args"]


def test_two_dags_share_nothing_that_one_could_change() -> None:
    first, second = real_time(["one"], paused=True, **LIMITS), real_time(["two"], paused=False, **LIMITS)
    first["default_args"]["retries"] = 0
    first["tags"].append("odd")
    assert second["default_args"]["retries"] == 2
    assert second["tags"] == ["fraud", "real-time", "two"]
    assert second["default_args"]["pool"] == POOL_REAL_TIME
    assert second["default_args"]["retry_delay"] < timedelta(seconds=30)
