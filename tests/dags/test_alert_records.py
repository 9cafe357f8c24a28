"""Incidents and task runs of a real Airflow are copied into the platform's database by its watch's role."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import psycopg2
import pytest

from config import constants
from tests.support.airflow_platform import AirflowPlatform
from tests.support.api_server import ROOT
from tests.support.stored_rows import run as run_sql

for folder in ("scripts", "plugins"):
    sys.path.append(str(ROOT / "airflow" / folder))
records: Any = import_module("alert_records")
overdue: Any = import_module("overdue")
watch_alerts: Any = import_module("watch_alerts")
watch_dags: Any = import_module("watch_dags")
watch_metrics: Any = import_module("watch_metrics")

pytestmark = pytest.mark.timeout(600)


class Watch:
    """An `AlertWatch` over the two real databases, whose messages go to the real notifier."""

    def __init__(self, platform: AirflowPlatform, **extra: str) -> None:
        server = platform.metadata.server
        address = urlsplit(platform.database.url("watch"))
        self.environ = {
            "DB_HOST": str(address.hostname),
            "DB_PORT": str(address.port),
            "DB_NAME": address.path.lstrip("/"),
            "DB_PASSWORD_WATCH": str(address.password),
            "AIRFLOW__CORE__FERNET_KEY": server.fernet_key,
            **extra,
        }
        self.sent: list[Any] = []
        self.metrics = watch_metrics.WatchMetrics()
        self.record = records.PlatformRecord(self.environ)
        self.heartbeat = watch_alerts.Heartbeat(15, datetime.now(UTC))
        self.alerts = watch_alerts.AlertWatch(
            self.record, self.metrics, self.heartbeat, self._send, self.environ
        )
        self.url = server.database_url

    def _send(self, message: Any) -> bool:
        self.sent.append(message)
        return True

    def check(self, after: timedelta = timedelta(0)) -> None:
        with closing(watch_dags.connect(self.url)) as connection:
            watch_dags.show_airflow(connection, self.metrics)
            self.alerts.check(connection, datetime.now(UTC) + after)

    def value(self, name: str, **labels: str) -> float | None:
        found: float | None = self.metrics.registry.get_sample_value(name, labels)
        return found


def alert(platform: AirflowPlatform, message: str) -> int:
    """As the watch does: the notifier in a process of its own, with Airflow's Variables."""
    return platform.metadata.send_alert(message)


def rows(platform: AirflowPlatform, query: str) -> list[tuple[Any, ...]]:
    return platform.rows(query)


def test_an_incident_is_recorded_brought_up_to_date_and_forgotten(platform: AirflowPlatform) -> None:
    watch = Watch(platform)
    told = (
        '{"kind": "alert", "key": "drift/x", "title": "Drift of x", "severity": "medium", "text": "PSI 0.4"}'
    )
    assert alert(platform, told) == 0
    watch.check()
    query = """SELECT source, severity, title, occurrences, sent_at IS NOT NULL, resolved_at IS NULL,
                      details ->> 'text' FROM alerts WHERE details ->> 'key' = 'drift/x'"""
    assert rows(platform, query) == [("airflow", "medium", "Drift of x", 1, True, True, "PSI 0.4")]
    assert alert(platform, told.replace("medium", "critical")) == 0
    watch.check()
    assert rows(platform, query)[0][1:4] == ("critical", "Drift of x", 2)
    assert watch.value("fraud_alerts_open", severity="critical") is not None
    variable = "SELECT 1 FROM variable WHERE description = 'Alert: drift/x'"
    # Over for longer than the ten minutes after which it is forgotten.
    platform.metadata.rows("DELETE FROM variable WHERE description = 'Alert: drift/x' RETURNING 1")
    assert alert(platform, told) == 0
    watch.check()
    assert [row[5] for row in rows(platform, query + " ORDER BY raised_at")] == [False, True]
    assert platform.metadata.rows(variable) == [(1,)]


def test_task_runs_are_recorded_once(platform: AirflowPlatform) -> None:
    run = platform.run(constants.DAGS_REAL_TIME[-1])
    watch = Watch(platform)
    old = """[{"dag_id": "old", "task_id": "t", "run_id": "r", "try_number": 1, "state": "success",
               "ended_at": "2024-01-01T00:00:00Z"}]"""
    assert run_sql(platform.database.url("watch"), "SELECT record_task_runs(%s)", old) == [(1,)]
    watch.check()
    assert rows(platform, "SELECT 1 FROM airflow_task_metrics WHERE dag_id = 'old'") == []
    query = f"SELECT task_id, state, try_number FROM airflow_task_metrics WHERE run_id = '{run.run_id}'"
    recorded = {task_id: state for task_id, state, _ in rows(platform, query)}
    assert recorded == run.tasks
    [[before]] = rows(platform, "SELECT count(*) FROM airflow_task_metrics")
    Watch(platform).check()
    assert len(rows(platform, query)) == len(run.tasks)
    [[after]] = rows(platform, "SELECT count(*) FROM airflow_task_metrics")
    [[known]] = platform.metadata.rows(
        "SELECT count(*) FROM task_instance"
        " WHERE state IN ('success', 'failed', 'skipped', 'upstream_failed')"
    )
    assert before <= after <= known + 100
    assert watch.value("fraud_airflow_tasks", state="queued") is not None
    assert (watch.value("fraud_airflow_heartbeat_timestamp_seconds", job="SchedulerJob") or 0) > 1e9


def test_a_record_that_cannot_be_kept_does_not_stop_the_watch(
    platform: AirflowPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(platform, DB_PORT="1")
    watch.check()
    watch.check()
    assert capsys.readouterr().err.count("Alerts cannot be recorded (OperationalError).") == 1
    assert watch.value("fraud_platform_read_timestamp_seconds") == 0
    assert watch.value("fraud_database_bytes") is None, "no figure is shown that may be out of date"


def test_the_watchdog_tells_once_that_prometheus_is_silent(platform: AirflowPlatform) -> None:
    watch = Watch(platform)
    watch.check(timedelta(minutes=14))
    assert [one for one in watch.sent if one.kind is overdue.Kind.ALERT] == []
    watch.check(timedelta(minutes=16))
    watch.check(timedelta(minutes=17))
    [message] = [one for one in watch.sent if one.kind is overdue.Kind.ALERT]
    assert (message.key, message.severity) == ("alert path: prometheus", "high")
    assert "sign of life for 15 minutes" in message.text
    watch.heartbeat.beat(datetime.now(UTC) + timedelta(minutes=18))
    watch.check(timedelta(minutes=18))
    assert watch.sent[-1].kind is overdue.Kind.RESOLVE


def test_incidents_are_stored_encrypted(platform: AirflowPlatform) -> None:
    assert (
        alert(platform, '{"kind": "alert", "key": "k", "title": "t", "severity": "high", "text": "x"}') == 0
    )
    [[value]] = platform.metadata.rows("SELECT val FROM variable WHERE description = 'Alert: k'")
    assert "title" not in value
    with (
        closing(watch_dags.connect(platform.metadata.server.database_url)) as connection,
        connection.cursor() as cursor,
    ):
        wrong = {"AIRFLOW__CORE__FERNET_KEY": "A" * 43 + "="}
        assert list(records.stored_incidents(cursor, wrong)) == []
    with (
        pytest.raises(psycopg2.errors.InsufficientPrivilege),
        closing(psycopg2.connect(platform.database.url("watch"))) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT 1 FROM transactions")
