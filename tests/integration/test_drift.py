"""Drift monitoring on a real database, registry and object store: from a quiet window to a trained model."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from config.constants import BUCKET_RUNS
from config.job_results.monitor import DriftResult, SaveDriftResult
from config.settings import ObjectStoreSettings
from fraud_adapters.job import NothingToDo
from fraud_adapters.models.mlflow_http import MlflowHttp
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.scored_transactions import store_scored
from fraud_core.labels import LabelEvent
from fraud_monitor.job import main
from fraud_trainer.job import main as train
from tests.integration.training_installation import Installation, wire_rows
from tests.integration.training_job import small_installation
from tests.support.mlflow_users import mlflow_login
from tests.support.stored_rows import Database, predictions, run
from tests.support.typed_results import mismatches


@pytest.fixture
def installation(
    database: Database, mlflow_uri: str, object_store: ObjectStoreSettings, tmp_path: Path
) -> Iterator[Installation]:
    with small_installation(database, mlflow_uri, object_store, tmp_path) as ready:
        yield ready


@pytest.fixture
def watched(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """With a champion; the process has the monitor's rights from here on."""
    assert train(["run", "--run-id", "first"])["figures"]["gate_passed"]
    as_monitor(installation, monkeypatch)
    return installation


def as_monitor(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": installation.database.url("monitor"),
        **mlflow_login("monitor"),
    }.items():
        monkeypatch.setenv(name, value)


def drift(run_id: str) -> DriftResult:
    result = main(["drift", "--run-id", run_id])
    assert list(mismatches(DriftResult, json.loads(json.dumps(result)))) == []
    return cast(DriftResult, result)


def score(installation: Installation, prefix: str, n: int, *, times: float = 1.0, wrong: int = 0) -> None:
    """Store transactions that version 1 decided now, and their labels; of the frauds `wrong` are missed."""
    rows, labels = wire_rows(n, datetime.now(UTC) - timedelta(minutes=30), seed=n, prefix=prefix)
    moments = [datetime.now(UTC) - timedelta(seconds=30)] * n
    columns = {**rows.columns, "sent_amount": np.round(rows.columns["sent_amount"] * times, 3)}
    rows = replace(rows, columns=columns, event_times=moments)
    flagged = labels == 1
    flagged[np.flatnonzero(flagged)[:wrong]] = False
    predicted = replace(
        predictions(installation.contract, rows, "approve", np.where(flagged, 0.97, 0.003).tolist()),
        predicted=flagged,
        model_version="1",
    )
    reports = [
        LabelEvent(str(uuid.uuid4()), name, int(label), "analyst", moments[0])
        for name, label in zip(rows.ids, labels, strict=True)
    ]
    with closing(connect(installation.database.url("streaming"), "test")) as connection:
        with connection, connection.cursor() as cursor:
            store_scored(cursor, installation.contract, rows, predicted, "bank")
        with connection, connection.cursor() as cursor:
            store_labels(cursor, reports)


def rows_of(installation: Installation, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    return list(run(installation.database.url("readonly"), statement, *values))


def verdicts(installation: Installation) -> list[str]:
    statement = "SELECT severity FROM drift_metrics WHERE kind = 'verdict' ORDER BY detected_at"
    return [severity for (severity,) in rows_of(installation, statement)]


def test_without_a_champion_nothing_can_be_said(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_monitor(installation, monkeypatch)
    result = drift("first")
    assert (result["severity"], result["step"], result["champion"]) == ("insufficient", "nothing", None)
    assert result["unknown"][0] == "There is no champion to compare with: train a first model"
    assert verdicts(installation) == ["insufficient"]
    saved = main(["save-drift", "--run-id", "first"])
    assert (saved["report"], saved["mlflow_run_id"]) == (None, None)
    with pytest.raises(NothingToDo, match="drift has not finished in this run"):
        main(["save-drift", "--run-id", "never"])


def test_from_an_empty_window_to_a_trigger_and_a_report(
    watched: Installation, object_store: ObjectStoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = drift("empty")
    assert (empty["severity"], empty["rows"]) == ("insufficient", {"hour": 0, "day": 0})

    score(watched, "a", 600)
    owner = watched.database.url("owner")
    run(owner, "UPDATE predictions SET prediction_time = now() + interval '2 hours' RETURNING 1")
    ahead = drift("ahead")
    assert ahead["severity"] == "insufficient"
    assert "0 rows, and 500 are needed, 600 more lie ahead of the clock" in ahead["text"]

    score(watched, "q", 900)
    quiet = drift("quiet")
    assert (quiet["severity"], quiet["data"], quiet["concept"]) == ("none", "none", "none")
    assert (quiet["rows"], quiet["trigger"]) == ({"hour": 900, "day": 900}, None)
    _check_estimates(watched)

    score(watched, "d", 1500, times=8.0)
    loud = drift("loud")
    assert (loud["severity"], loud["step"], loud["data"]) == ("high", "retrain", "high")
    assert loud["moved"][0]["name"] == "sent_amount"
    assert " up from " in loud["moved"][0]["how"]
    assert (loud["moved"][0]["importance"] or 0) > 0
    assert "of the champion's importance" in loud["text"]
    # A retried task stores the same once.
    again = drift("loud")
    assert (again["trigger"], again["step"]) == (loud["trigger"], "retrain")
    assert again["moved"][0]["since"] is None
    assert verdicts(watched) == ["insufficient", "insufficient", "none", "high"]
    [(source, severity, state, reason)] = rows_of(
        watched, "SELECT source, severity, state, reason FROM retraining_triggers WHERE source = 'drift'"
    )
    assert (source, severity, state) == ("drift", "high", "open")
    assert reason.startswith("Drift of inputs (high). ")

    held = drift("held")
    assert (held["severity"], held["step"], held["trigger"]) == ("high", "alert", None)
    assert "24 h must pass between two" in str(held["held_back"])
    assert held["moved"][0]["since"] is not None

    score(watched, "m", 1200, wrong=120)
    missed = drift("missed")
    assert (missed["severity"], missed["concept"], missed["step"]) == ("critical", "critical", "alert")
    assert "must be at least 0.95" in missed["text"]

    _check_report(watched, object_store)
    monkeypatch.setenv("DATABASE_URL", watched.database.url("trainer"))
    for name, value in mlflow_login("trainer").items():
        monkeypatch.setenv(name, value)
    decision = train(["decide", "--run-id", "after"])
    assert decision["triggers"] == [loud["trigger"]]
    assert decision["reason"].startswith("Retrain: open trigger: drift, high: Drift of inputs (high)")


def _check_estimates(watched: Installation) -> None:
    """The estimate of a run is compared with the truth, whose labels are there already."""
    estimates = rows_of(
        watched, "SELECT metric, value, low, high, truth, labels FROM performance_estimates ORDER BY metric"
    )
    assert [row[0] for row in estimates] == ["fpr", "precision", "recall"]
    for _, value, low, high, truth, labels in estimates:
        assert low <= value <= high
        assert truth is not None
        assert labels == 900


def _check_report(watched: Installation, object_store: ObjectStoreSettings) -> None:
    saved = cast(SaveDriftResult, main(["save-drift", "--run-id", "loud"]))
    assert list(mismatches(SaveDriftResult, json.loads(json.dumps(saved)))) == []
    page = ObjectStore(object_store, BUCKET_RUNS).get_bytes(str(saved["report"])).decode()
    assert "Drift of inputs (high)" in page
    assert "default-src 'none'" in page
    with MlflowHttp(watched.mlflow_uri) as http:
        logged = http.get("runs/get", {"run_id": str(saved["mlflow_run_id"])}) or {}
        version = (
            http.get("model-versions/get", {"name": watched.contract.registered_model, "version": "1"}) or {}
        )
    metrics = {entry["key"]: entry["value"] for entry in logged["run"]["data"]["metrics"]}
    assert metrics["psi_sent_amount_hour"] > 0.5
    assert metrics["recall"] == 1.0
    assert logged["run"]["info"]["status"] == "FINISHED"
    tags = {entry["key"]: entry["value"] for entry in version["model_version"]["tags"]}
    assert (tags["fraud.drift_run"], tags["fraud.drift"]) == (saved["mlflow_run_id"], "high")
    assert main(["save-drift", "--run-id", "loud"])["mlflow_run_id"] == saved["mlflow_run_id"]
