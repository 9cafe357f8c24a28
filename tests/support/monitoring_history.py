"""What a platform that has run for a while has stored and exports, made by the product's own functions."""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from config.services import ROLE_WATCH
from fraud_adapters.models.recorded import VersionRefused
from fraud_adapters.postgres import audit, connect, model_versions, performance_estimates, retraining_triggers
from fraud_adapters.postgres.labels import store_labels
from fraud_adapters.postgres.performance_estimates import EstimatedWindow
from fraud_adapters.postgres.retraining_triggers import RunName
from fraud_api.metrics import SHADOW_OUTCOMES
from fraud_api.metrics import Metrics as ApiMetrics
from fraud_audit.metrics import LOGIN_OUTCOMES
from fraud_audit.metrics import Metrics as AuditMetrics
from fraud_core.decision import Decision
from fraud_core.drift.estimate import FEWEST_COMPARED, Estimate
from fraud_core.labels import LabelEvent
from fraud_monitor.drift.measuring import measure
from fraud_monitor.drift.storing import store
from fraud_monitor.performance.verbs import performance
from fraud_monitor.quality.verbs import quality
from fraud_monitor.replay.verbs import replay
from fraud_monitor.replay.verifying import Replayer
from fraud_streaming.follow.metrics import Metrics as StreamMetrics
from tests.support.api_server import ROOT
from tests.support.feedback_installation import FeedbackInstallation, label_case
from tests.support.monitor_installation import MonitorInstallation, arrived, champion
from tests.support.release_history import store_releases
from tests.support.stored_rows import Database

for folder in ("scripts", "plugins"):
    sys.path.append(str(ROOT / "airflow" / folder))
alert_records: Any = import_module("alert_records")
watch_metrics: Any = import_module("watch_metrics")
incident: Any = import_module("fraud_airflow.alerting.incident")

ROWS: Final = 1200
DAGS: Final = ("02_drift_monitoring", "04_data_quality", "06_model_performance_tracking")
TOPIC: Final = "fraud-detection-transactions"


def store_history(database: Database) -> None:
    """Transactions, labels, and what each job of monitoring finds in them; two runs of each."""
    known = champion(metrics={"recall": 0.97, "precision": 0.9})
    monitor = MonitorInstallation(database, champion=lambda: known)
    _register(database)
    _confirm_estimates(database)
    _decide_and_label(monitor, datetime.now(UTC) - timedelta(hours=1))
    shifted = arrived(ROWS, seed=2)
    columns = {**shifted.columns, "amount": np.round(shifted.columns["amount"] * 8, 2)}
    for run, rows in (("quiet", arrived(ROWS, seed=3)), ("loud", replace(shifted, columns=columns))):
        monitor.move_arrivals(timedelta(hours=3))  # out of the short window of the run that follows
        monitor.decide(rows, scores=_as_in_the_reference())
        with monitor.context(f"scheduled__{run}", DAGS[0]) as context:
            store(context, measure(context))
        with monitor.context(f"scheduled__{run}", DAGS[1]) as context:
            quality(context, argparse.Namespace())
        with monitor.context(f"scheduled__{run}", DAGS[2]) as context:
            performance(context, argparse.Namespace())
    _replay(database)
    _collect_feedback(database)
    _end_training(database)
    _compare_estimates(database)
    store_releases(database)
    _record(database)


def _replay(database: Database) -> None:
    """A sample of decisions whose version no registry has."""

    def gone(version: str) -> Replayer:
        raise VersionRefused("artefact", f"Version {version} is not in the registry.")

    monitor = MonitorInstallation(database, version=gone)
    with monitor.context("scheduled__replay", "03_feedback_collection") as context:
        replay(context, argparse.Namespace(sample=20))


@contextmanager
def _as(database: Database, role: str) -> Iterator[Any]:
    """A cursor with a role's rights, in a transaction of its own."""
    with (
        closing(connect(database.url(role), "test")) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def _as_in_the_reference() -> NDArray[np.float64]:
    """Scores distributed as those of the champion's held-out part, so that estimates are trusted."""
    rng = np.random.default_rng(5)
    return np.clip((rng.random(ROWS) < 0.05) * 0.8 + rng.random(ROWS) * 0.2, 0, 1)


def _decide_and_label(monitor: MonitorInstallation, moment: datetime) -> None:
    rows = arrived(ROWS, seed=1, event_time=moment)
    scores = np.full(ROWS, 0.05)
    scores[:90], scores[100:110] = 0.95, 0.7
    monitor.decide(rows, scores=scores)
    events = [LabelEvent(str(uuid.uuid4()), name, 1, "analyst", moment) for name in rows.ids[:100]]
    with _as(monitor.database, "streaming") as cursor:
        store_labels(cursor, events)


def _register(database: Database) -> None:
    """A version that passed its gate and is champion."""
    moment = datetime.now(UTC)
    version = model_versions.NewVersion(
        name="fraud-creditcard",
        version="7",
        mlflow_run_id="0" * 32,
        contract="creditcard/1",
        digest="0" * 64,
        gate_policy="specification",
        gate_passed=True,
        gate_outcome={},
        metrics={"recall": 0.97, "precision": 0.9},
        threshold=0.5,
        block_threshold=0.9,
        data_from=moment - timedelta(days=7),
        data_to=moment,
        created_at=moment,
        origin="trained",
        data_digest="0" * 64,
        code_version="test",
        parent_run="runs/01_training_pipeline/drift__loud",
    )
    with _as(database, "trainer") as cursor:
        model_versions.record_version(cursor, version)
    with _as(database, "api") as cursor:
        audit.alias_taken_up(cursor, "fraud-creditcard", "champion", "7", {"version": "7"})


def _collect_feedback(database: Database) -> None:
    """People have reviewed the flagged cases and the random sample; two of them disagree about one."""
    feedback = FeedbackInstallation(database)
    feedback.with_opening(settle=timedelta(microseconds=1), sampling_share=0.05)
    for _ in range(3):
        feedback.do("pending")
    with closing(connect(database.url("owner"), "test")) as connection:
        for name, _, _ in feedback.cases():
            label_case(connection, name, 0, "ann")
        label_case(connection, feedback.cases()[0][0], 1, "bo")
    feedback.collection("scheduled__feedback")


def _end_training(database: Database) -> None:
    """The training that drift ordered has registered a version."""
    run = RunName("01_training_pipeline", "drift__loud")
    with _as(database, "trainer") as cursor:
        retraining_triggers.take(cursor, run, retraining_triggers.open_triggers(cursor, run))
        retraining_triggers.close(cursor, run, "registered version 7")


def _confirm_estimates(database: Database) -> None:
    """Earlier estimates that held the truth: without such none is trusted."""
    now = datetime.now(UTC)
    with _as(database, "monitor") as cursor:
        for hours in range(3, 3 + FEWEST_COMPARED):
            start, end = (now - timedelta(hours=back) for back in (hours + 1, hours))
            window = EstimatedWindow("creditcard/1", "7", start, end, ROWS, trusted=False)
            run = RunName(DAGS[0], f"before-{hours}")
            estimate = Estimate("recall", 0.9, 0.85, 0.95)
            performance_estimates.store_estimates(cursor, run, now, window, [estimate])
    _compare_estimates(database)


def _compare_estimates(database: Database) -> None:
    now = datetime.now(UTC)
    with _as(database, "monitor") as cursor:
        for one in performance_estimates.open_estimates(cursor, now, 100):
            performance_estimates.store_truth(cursor, one.identifier, now, 0.9, 100)


def _record(database: Database) -> None:
    """Incidents that are open and over, and tries of tasks, as Airflow's watch records them."""
    now = datetime.now(UTC)
    rows = []
    for number, severity in enumerate(watch_metrics.SEVERITIES):
        for over in (False, True):
            since = now - timedelta(hours=number + 2)
            made = incident.Incident(
                key=f"dag:{DAGS[number]}:{over}",
                title=f"{DAGS[number]} failed",
                since=since,
                count=2,
                severity=severity,
                text="The database does not answer.",
                link="http://localhost:8080/dags/x",
                sent_at=since + timedelta(seconds=5),
                worked_at=now if over else None,
                resolved=over,
            )
            rows.append(alert_records.alert_row(made))
    watch_record(database).alerts(rows)
    tries = [
        {
            "dag_id": dag,
            "task_id": task,
            "run_id": f"scheduled__{run}",
            "try_number": 1,
            "state": "failed" if (run, task) == (1, "report") else "success",
            "started_at": (now - timedelta(hours=run, seconds=60)).isoformat(),
            "ended_at": (now - timedelta(hours=run)).isoformat(),
            "duration_seconds": 60.0,
            "details": {"operator": "FraudDockerOperator", "pool": "default_pool", "queued_seconds": 1.5},
        }
        for dag in DAGS
        for task in ("measure", "report")
        for run in (1, 2)
    ]
    with _as(database, "watch") as cursor:
        cursor.execute("SELECT record_task_runs(%s)", (json.dumps(tries),))


def watch_record(database: Database) -> Any:
    """The platform's database as Airflow's watch reaches it."""
    address = urlsplit(database.url("watch"))
    assert address.username == ROLE_WATCH
    return alert_records.PlatformRecord(
        {
            "DB_HOST": str(address.hostname),
            "DB_PORT": str(address.port),
            "DB_NAME": address.path[1:],
            "DB_PASSWORD_WATCH": str(address.password),
        }
    )


class Exporters:
    """The metrics of the API, of a follower and of Airflow's watch, as each service registers them."""

    def __init__(self, database: Database) -> None:
        self.api, self.follower, self.audit = ApiMetrics(), StreamMetrics(), AuditMetrics()
        self.airflow = watch_metrics.WatchMetrics()
        self._figures = watch_record(database).figures()
        self._lane = self.follower.lane(TOPIC)

    def registries(self) -> dict[str, Any]:
        """By the name of Prometheus's job."""
        return {
            "api": self.api.registry,
            "follower": self.follower.registry,
            "airflow": self.airflow.registry,
            "audit": self.audit.registry,
        }

    def work(self, position: int) -> None:
        """Some requests, some batches and a look of the watch; called twice, every counter has increased."""
        self._serve()
        self._follow(position)
        self._watch()
        self._review()

    def _serve(self) -> None:
        metrics = self.api
        for route in ("/predict", "/predict/batch"):
            metrics.requests.labels("POST", route, 200).inc(50)
            metrics.requests.labels("POST", route, 503).inc()
            for decision in Decision:
                metrics.scored.labels(route, decision).inc(10)
            for seconds in (0.004, 0.02, 0.08):
                metrics.latency.labels(route).observe(seconds)
        metrics.replayed.inc()
        metrics.canary_percent.set(10)
        metrics.canary_failures.inc()
        for outcome in SHADOW_OUTCOMES:
            metrics.shadow.labels(outcome).inc(20)
        metrics.model.labels("7", "0" * 64, "passed").set(1)
        metrics.model_refused.labels("gate").inc()
        for part in ("broker", "topic", "database", "registry"):
            metrics.dependency_up.labels(part).set(1)
        metrics.lag.labels(TOPIC).set(12)
        metrics.writer_rows.observe(16)
        metrics.writer_waiting.set(2)

    def _follow(self, position: int) -> None:
        metrics = self.follower
        self._lane.partitions.set(2)
        self._lane.joined.set(1)
        self._lane.paused.inc()
        self._lane.holders_ended.inc()
        self._lane.failed(TimeoutError())
        self._lane.set_positions({0: position, 1: position}, {0: position + 5, 1: position})
        for outcome in ("stored", "replayed", "dead_lettered"):
            metrics.records.labels(TOPIC, outcome).inc(100)
        metrics.dead_letters.labels(TOPIC, "not_json").inc()
        metrics.batch_seconds.labels(TOPIC).observe(0.3)
        metrics.batch_rows.labels(TOPIC).observe(100)
        metrics.latency.labels(TOPIC).observe(0.8)
        metrics.alerts.inc(3)
        metrics.classes.inc(4)

    def _watch(self) -> None:
        watch, now = self.airflow, datetime.now(UTC)
        watch.show({dag: timedelta(minutes=-5) for dag in DAGS}, now)
        running, usual = dict.fromkeys(DAGS, 12.0), dict.fromkeys(DAGS, 10.0)
        jobs = dict.fromkeys(("scheduler", "dag_processor", "triggerer"), now.timestamp())
        watch.show_airflow(running, usual, {"queued": 1, "running": 2}, jobs)
        watch.show_alerts(())
        watch.show_figures(self._figures)
        watch.heartbeat.set(now.timestamp())
        watch.recorded.set(now.timestamp())
        watch.task_runs.inc()

    def _review(self) -> None:
        metrics = self.audit
        for status in (200, 303):
            metrics.requests.labels("POST", "/manual_labeling/{case_id}", status).inc(20)
        for seconds in (0.02, 0.05, 0.2):
            metrics.latency.labels("/manual_labeling/{case_id}").observe(seconds)
        for outcome in LOGIN_OUTCOMES:
            metrics.logins.labels(outcome).inc()
        for label in ("fraud", "legitimate"):
            metrics.labels.labels(label).inc(5)
        metrics.opened.inc(12)
        metrics.database_up.set(1)
