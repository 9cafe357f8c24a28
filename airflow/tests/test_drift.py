"""What follows in the drift DAG from the monitor's verdict."""

from __future__ import annotations

from typing import Any, cast

import pytest

from config.job_results.monitor import DriftResult
from fraud_airflow import drift
from fraud_airflow.alerting import configuration


def result(severity: str, step: str, held_back: str | None = None) -> DriftResult:
    document = {
        "severity": severity,
        "step": step,
        "title": f"Drift of inputs ({severity})",
        "text": "amount: median up from 22 to 33",
        "held_back": held_back,
    }
    return cast(DriftResult, document)


class Resolved:
    def __init__(self) -> None:
        self.keys: list[str] = []

    def resolve(self, key: str) -> list[str]:
        self.keys.append(key)
        return []


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> Resolved:
    record = Resolved()
    monkeypatch.setattr(configuration, "notifier", lambda: record)
    return record


@pytest.mark.parametrize(
    ("severity", "step", "tasks"),
    [
        ("critical", "retrain", ["trigger_retraining_dag", "send_drift_alert"]),
        ("high", "retrain", ["trigger_retraining_dag", "send_drift_alert"]),
        ("high", "alert", ["send_drift_alert"]),
        ("medium", "alert", ["send_drift_alert"]),
        ("none", "nothing", ["no_action"]),
        ("insufficient", "nothing", ["no_action"]),
    ],
)
def test_each_verdict_has_its_branch(resolved: Resolved, severity: str, step: str, tasks: list[str]) -> None:
    parsed = drift.parse(result(severity, step))
    assert drift.branch(parsed) == tasks
    # Only a run without drift ends an incident: insufficient does not know.
    assert bool(resolved.keys) is (severity == "none")
    if resolved.keys:
        assert resolved.keys == [f"02_drift_monitoring/{one}" for one in ("medium", "high", "critical")]


def test_the_message_says_what_follows(resolved: Resolved) -> None:
    assert drift.parse(result("high", "retrain"))["text"].endswith("A retraining is triggered.")
    held = drift.parse(result("high", "alert", "No retraining is triggered: 24 h must pass between two."))
    assert held["text"].splitlines()[-1] == "No retraining is triggered: 24 h must pass between two."
    assert resolved.keys == []


def test_a_failing_alert_path_does_not_fail_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise RuntimeError("no Variable")

    monkeypatch.setattr(configuration, "notifier", broken)
    assert drift.parse(result("none", "nothing"))["step"] == "nothing"
