"""The verb `performance` on real Postgres, object store and MLflow."""

from __future__ import annotations

import argparse
import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import numpy as np
import pytest

from config import constants
from config.job_results.monitor import PerformanceResult
from config.settings import ObjectStoreSettings
from fraud_adapters.models.registry_writer import RegistryWriter
from fraud_adapters.objectstore import ObjectStore
from fraud_adapters.postgres import connect
from fraud_adapters.postgres.examples import database_clock
from fraud_adapters.postgres.labels import store_labels
from fraud_core.labels import LabelEvent
from fraud_monitor.performance.measured import Measured
from fraud_monitor.performance.measuring import measure as measure_champion
from fraud_monitor.performance.verbs import performance
from fraud_monitor.run_context import EXPERIMENT
from tests.support.mlflow_users import mlflow_login
from tests.support.monitor_installation import MonitorInstallation, arrived, champion
from tests.support.stored_rows import Database
from tests.support.typed_results import mismatches

ROWS = 2000
HELD_OUT: Final[dict[str, float | None]] = {
    "recall": 0.97, "recall_low": 0.955, "recall_high": 0.98, "precision": 0.9, "precision_low": 0.88,
    "precision_high": 0.92, "f1": 0.934, "f1_low": 0.92, "f1_high": 0.945,
}  # fmt: skip


@pytest.fixture
def monitor(database: Database, object_store: ObjectStoreSettings) -> Iterator[MonitorInstallation]:
    known = champion(metrics=HELD_OUT)
    ObjectStore(object_store, constants.BUCKET_RUNS).ensure_bucket()
    yield MonitorInstallation(database, store=object_store, champion=lambda: known)


def decided(
    monitor: MonitorInstallation, *, frauds: int, found: int, false_alarms: int, labelled: bool = True
) -> None:
    """Decisions of an hour ago, whose truth is known: silence counts after minutes in the tests."""
    rows = arrived(ROWS, prefix=f"p{uuid.uuid4().hex[:8]}", event_time=datetime.now(UTC) - timedelta(hours=1))
    scores = np.full(ROWS, 0.05)
    scores[:found] = 0.7
    scores[frauds : frauds + false_alarms] = 0.7
    monitor.decide(rows, scores=scores)
    if labelled:
        events = [
            LabelEvent(str(uuid.uuid4()), name, 1, "analyst", moment)
            for name, moment in zip(rows.ids[:frauds], rows.event_times, strict=False)
        ]
        with (
            closing(connect(monitor.database.url("streaming"), "test")) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            store_labels(cursor, events)


def measure(monitor: MonitorInstallation, run_id: str = "first") -> PerformanceResult:
    with monitor.context(run_id, "06_model_performance_tracking") as context:
        result = performance(context, argparse.Namespace())
    assert list(mismatches(PerformanceResult, json.loads(json.dumps(result)))) == []
    return result


def judged(monitor: MonitorInstallation) -> Measured:
    """The verdict alone, without storing and drawing."""
    known = monitor.champion()
    assert known is not None
    with monitor.context() as context, closing(context.database()) as connection:
        return measure_champion(context, connection, known, database_clock(connection))


def test_a_model_as_good_as_it_was_made_raises_no_alert(monitor: MonitorInstallation) -> None:
    decided(monitor, frauds=200, found=195, false_alarms=20)
    result = measure(monitor)
    assert (result["severity"], result["labels"], result["frauds"]) == ("none", ROWS, 200)
    recall = result["figures"]["recall"]
    assert (recall["value"], recall["rows"]) == (0.975, 200)
    assert 0.93 < recall["low"] < 0.975 < recall["high"] < 1
    assert result["figures"]["fnr"]["value"] == pytest.approx(0.025)
    assert result["figures"]["fpr"]["value"] == pytest.approx(20 / 1800)
    assert result["money"]["recall"]["value"] != recall["value"]
    assert result["latency_ms"] == {"p50": 1.5, "p95": 1.5, "p99": 1.5}
    assert result["throughput"] == pytest.approx(ROWS / 3600)
    stored = monitor.rows("SELECT metric, part, value, low, high, rows, labels FROM performance_metrics")
    by_metric = {(row[0], row[1]): row[2:] for row in stored}
    assert by_metric["recall", ""] == (0.975, recall["low"], recall["high"], 200, ROWS)
    bands = ["under 10", "10 to 50", "50 to 200", "200 to 1000", "1000 and more"]
    assert {part for metric, part in by_metric if metric == "recall"} == {"", *bands}
    assert by_metric["fraud_rate", "review"][0] == pytest.approx(195 / 215)
    assert by_metric["latency_ms_p99", "xgboost"][0] == 1.5
    # A retry replaces; another run adds a point to the trend.
    measure(monitor)
    assert len(monitor.rows("SELECT 1 FROM performance_metrics")) == len(stored)


def test_the_report_is_one_file_without_references(monitor: MonitorInstallation) -> None:
    decided(monitor, frauds=200, found=195, false_alarms=20)
    measure(monitor)
    result = measure(monitor, "second")
    assert result["report"] == "runs/06_model_performance_tracking/second/performance.html"
    assert result["problems"] == ["MLflow at http://127.0.0.1:1 does not answer (ConnectError)."]
    store = ObjectStore(monitor.store, constants.BUCKET_RUNS)  # type: ignore[arg-type]
    html = store.get_bytes(result["report"]).decode()
    for text in ("Performance of version 7", "0.9750 (0.9428 to 0.9893)", "200 to 1000"):
        assert text in html
    assert html.count("data:image/svg+xml;base64,") == 3, "calibration, scores and the trend of two runs"
    assert "http" not in html.replace("http://127.0.0.1:1", "")
    assert store.get_bytes(result["report"].replace(".html", ".md")).startswith(b"# Performance of version 7")


def test_a_worse_model_alerts_and_an_unfit_one_is_critical(monitor: MonitorInstallation) -> None:
    decided(monitor, frauds=200, found=172, false_alarms=20)
    worse = judged(monitor).verdict
    assert worse.severity == "medium"
    assert worse.sentence.startswith("The model has become worse: recall changed by -11.3%")
    decided(monitor, frauds=200, found=100, false_alarms=20)
    unfit = measure(monitor)
    assert (unfit["severity"], unfit["title"]) == ("critical", "The model is not fit for service: version 7")
    assert "recall 0.6800 (0.63" in unfit["text"]
    # The floors of the policy in force.
    monitor.parameters = monitor.parameters.model_copy(update={"gate": "low_prevalence"})
    assert judged(monitor).verdict.severity == "medium"


def test_too_few_labels_or_one_class_decide_nothing(monitor: MonitorInstallation) -> None:
    nothing = measure(monitor)
    assert (nothing["severity"], nothing["labels"]) == ("insufficient", 0)
    assert nothing["text"] == "0 predictions have a mature label, 1,000 are needed."
    decided(monitor, frauds=0, found=0, false_alarms=0)
    legitimate = judged(monitor)
    assert legitimate.verdict.severity == "insufficient"
    assert legitimate.verdict.sentence == "0 of 2,000 labels are frauds, 50 are needed."
    assert legitimate.figures.count["recall"].value is None


def test_frauds_alone_decide_nothing(monitor: MonitorInstallation) -> None:
    decided(monitor, frauds=ROWS, found=ROWS, false_alarms=0)
    assert judged(monitor).verdict.sentence.startswith("All 2,000 labels are frauds")


def test_without_a_champion_nothing_is_known(monitor: MonitorInstallation) -> None:
    monitor.champion = lambda: None
    result = measure(monitor)
    assert (result["severity"], result["text"]) == ("insufficient", "There is no champion.")


def test_blocked_and_young_transactions_are_left_out_and_counted(monitor: MonitorInstallation) -> None:
    rows = arrived(50, event_time=datetime.now(UTC) - timedelta(hours=1))
    monitor.decide(rows, scores=np.full(50, 0.95))
    monitor.decide(arrived(30, seed=2))
    result = judged(monitor)
    assert (result.figures.counts.total, result.left_out_blocked) == (0, 50)


def test_an_object_store_that_does_not_answer_is_named(monitor: MonitorInstallation) -> None:
    monitor.store = None
    decided(monitor, frauds=200, found=195, false_alarms=20)
    result = measure(monitor)
    assert (result["severity"], result["report"]) == ("none", None)
    assert any("object store" in problem for problem in result["problems"])


def test_figures_and_report_are_a_run_in_mlflow_linked_from_the_version(
    monitor: MonitorInstallation, mlflow_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"fraud-t{uuid.uuid4().hex[:8]}"
    contract = monitor.contract.model_copy(update={"name": name.removeprefix("fraud-")})
    client: Any = RegistryWriter(mlflow_uri)._client
    made = client.create_run(client.create_experiment(name)).info
    client.create_registered_model(name)
    client.create_model_version(name, f"{made.artifact_uri}/model", made.run_id)
    known = champion(contract, HELD_OUT)
    monitor.champion, monitor.contract = lambda: type(known)("1", known.manifest, known.profile), contract
    monitor.mlflow_uri = mlflow_uri
    decided(monitor, frauds=200, found=195, false_alarms=20)
    monitor.rows("UPDATE predictions SET model_version = '1' RETURNING 1")
    for variable, value in mlflow_login("monitor").items():
        monkeypatch.setenv(variable, value)
    result = measure(monitor)
    assert result["problems"] == []
    assert measure(monitor)["mlflow_run_id"] == result["mlflow_run_id"], "a retry continues its run"
    run = client.get_run(result["mlflow_run_id"])
    assert (run.info.status, run.data.tags["severity"]) == ("FINISHED", "none")
    assert client.get_experiment(run.info.experiment_id).name == EXPERIMENT
    assert run.data.metrics["recall"] == 0.975
    assert run.data.metrics["throughput"] > 0
    assert client.get_model_version(name, "1").tags["performance_run"] == result["mlflow_run_id"]
    address = (
        f"{mlflow_uri}/get-artifact?path=performance/performance.html&run_uuid={result['mlflow_run_id']}"
    )
    login = mlflow_login("person")
    answer = httpx.get(address, auth=(login["MLFLOW_TRACKING_USERNAME"], login["MLFLOW_TRACKING_PASSWORD"]))
    assert "Performance of version 1" in answer.text
