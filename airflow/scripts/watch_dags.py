"""Sends an alert when a DAG that should run does not, and records alerts and task runs: `watch_dags.py`.

Every few seconds it reads from Airflow's database when the runs of each unpaused DAG last succeeded. It does
not import Airflow: `send_alert.py` sends notifications in a separate process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg2
from alert_receiver import AlertReceiver
from alert_records import PlatformRecord
from environment import DATABASE, SettingError, complete_environment, number
from heartbeat import beat
from overdue import ActiveRun, Dag, Notification, OverdueWatch, incident_key
from prometheus_client import make_wsgi_app
from schedules import schedule
from termination import termination_event
from watch_alerts import HEARTBEAT_MINUTES, AlertWatch, Heartbeat
from watch_metrics import WatchMetrics, serve

CHECK_INTERVAL_S: Final = 5.0
_HEARTBEAT_S: Final = 120.0  # a check may wait for the database and for notifications
_SEND_TIMEOUT_S: Final = 90.0
# A DAG whose file was removed is stale and ignored; one whose file has import errors is watched.
_DAGS: Final = """
SELECT dag.dag_id, known.timetable, dag.has_import_errors,
       EXISTS (SELECT FROM dag_tag WHERE dag_tag.dag_id = dag.dag_id AND dag_tag.name = 'critical'),
       (SELECT max(end_date) FROM dag_run WHERE dag_run.dag_id = dag.dag_id AND state = 'success'),
       active.run_id, active.state, active.dated
FROM dag
CROSS JOIN LATERAL (
    SELECT data -> 'dag' -> 'timetable' AS timetable FROM serialized_dag
    WHERE serialized_dag.dag_id = dag.dag_id ORDER BY created_at DESC LIMIT 1
) AS known
LEFT JOIN LATERAL (
    SELECT run_id, state, greatest(logical_date, run_after) AS dated FROM dag_run
    WHERE dag_run.dag_id = dag.dag_id AND state IN ('queued', 'running')
    ORDER BY state = 'running' DESC, id LIMIT 1
) AS active ON true
WHERE NOT dag.is_paused AND (NOT dag.is_stale OR dag.has_import_errors)
"""
# The running time of the oldest run, and the usual one.
_RUNS: Final = """
SELECT dag.dag_id, running.seconds, CASE WHEN usual.runs >= 5 THEN usual.seconds END
FROM dag
LEFT JOIN LATERAL (
    SELECT extract(epoch FROM now() - min(start_date)) AS seconds FROM dag_run
    WHERE dag_run.dag_id = dag.dag_id AND state = 'running'
) AS running ON true
LEFT JOIN LATERAL (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM end_date - start_date)) AS seconds,
           count(*) AS runs
    FROM (
        SELECT start_date, end_date FROM dag_run
        WHERE dag_run.dag_id = dag.dag_id AND state = 'success' AND start_date IS NOT NULL
        ORDER BY id DESC LIMIT 20
    ) AS latest
) AS usual ON true
WHERE NOT dag.is_stale
"""
_TASKS: Final = """
SELECT state, count(*) FROM task_instance WHERE state IN ('scheduled', 'queued', 'running', 'up_for_retry')
GROUP BY state
"""
_JOBS: Final = """
SELECT job_type, extract(epoch FROM max(latest_heartbeat)) FROM job
WHERE job_type IN ('SchedulerJob', 'DagProcessorJob', 'TriggererJob') GROUP BY job_type
"""


def main() -> int:
    try:
        complete_environment()
        metrics, record = WatchMetrics(), PlatformRecord()
        heartbeat = Heartbeat(_heartbeat_minutes(), datetime.now(UTC))
        serve(AlertReceiver(make_wsgi_app(metrics.registry), record.alerts, heartbeat.beat), os.environ)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 2
    if not os.environ.get(DATABASE):
        print(f"{DATABASE} is not set: the watch reads Airflow's database.", file=sys.stderr)
        return 2
    ended = termination_event()
    print(f"watching, with a check every {CHECK_INTERVAL_S:g} s", flush=True)
    if not record.is_configured:
        print(
            "DB_PASSWORD_WATCH is not set: alerts and task runs are not recorded.",
            file=sys.stderr,
            flush=True,
        )
    run(metrics, AlertWatch(record, metrics, heartbeat, send), ended)
    return 0


def _heartbeat_minutes() -> float | None:
    is_expected = bool(os.environ.get(HEARTBEAT_MINUTES))
    return number(os.environ, HEARTBEAT_MINUTES, 15, 24 * 60) if is_expected else None


def run(metrics: WatchMetrics, alerts: AlertWatch, ended: threading.Event) -> None:
    """Check until stopped; a failure is logged once and retried at the next check."""
    watch, failing = OverdueWatch(), ""
    beat(_HEARTBEAT_S)
    while not ended.is_set():
        try:
            with closing(connect(os.environ[DATABASE])) as connection:
                while not ended.is_set():
                    check(watch, connection, metrics)
                    alerts.check(connection, datetime.now(UTC))
                    failing = ""
                    beat(_HEARTBEAT_S)
                    ended.wait(CHECK_INTERVAL_S)
        except psycopg2.Error as error:
            if failing != (failing := type(error).__name__):
                print(f"Airflow's database cannot be read ({failing}).", file=sys.stderr, flush=True)
            ended.wait(CHECK_INTERVAL_S)


def check(watch: OverdueWatch, connection: Any, metrics: WatchMetrics) -> None:
    """Check once and send the resulting notifications."""
    dags = list(read_dags(connection))
    now = datetime.now(UTC)
    lateness = watch.check(dags, now)
    metrics.show({name: late for name, (_, late) in lateness.items()}, now)
    show_airflow(connection, metrics)
    for message in list(watch.notifications(lateness, now)):
        text = message.text.replace("\n", " ")
        print(
            f"{now.isoformat(timespec='seconds')} {message.kind}: {message.dag_id} {text}".strip(), flush=True
        )
        sent = send(message)
        watch.record(message, lateness[message.dag_id][0], datetime.now(UTC), sent=sent)


def show_airflow(connection: Any, metrics: WatchMetrics) -> None:
    """Set the metrics of runs, tasks and Airflow's own processes."""
    with connection.cursor() as cursor:
        cursor.execute(_RUNS)
        runs = cursor.fetchall()
        cursor.execute(_TASKS)
        tasks = dict(cursor.fetchall())
        cursor.execute(_JOBS)
        jobs = {name: float(moment) for name, moment in cursor.fetchall()}
    running = {name: float(seconds or 0) for name, seconds, _ in runs}
    usual = {name: float(seconds) for name, _, seconds in runs if seconds is not None}
    metrics.show_airflow(running, usual, tasks, jobs)


def connect(address: str) -> Any:
    """A read-only connection in autocommit mode, with short timeouts.

    Raises:
        psycopg2.Error: the database is unavailable or refuses the connection.
    """
    connection = psycopg2.connect(
        address.replace("postgresql+psycopg2:", "postgresql:", 1),
        connect_timeout=5,
        application_name="airflow-watch",
        options="-c statement_timeout=10000 -c default_transaction_read_only=on",
    )
    connection.autocommit = True
    return connection


def read_dags(connection: Any) -> Iterator[Dag]:
    """The unpaused DAGs that are scheduled by time."""
    with connection.cursor() as cursor:
        cursor.execute(_DAGS)
        rows = cursor.fetchall()
        # The notifier stores one Variable per open incident, with its key in the description.
        cursor.execute("SELECT description FROM variable WHERE description LIKE 'Alert: %'")
        open_incidents = {description for (description,) in cursor.fetchall()}
    for dag_id, timetable, unreadable, critical, succeeded, run_id, state, dated in rows:
        dag_schedule = schedule(timetable or {})
        if dag_schedule is not None:
            yield Dag(
                dag_id=dag_id,
                schedule=dag_schedule,
                critical=critical,
                unreadable=bool(unreadable),
                succeeded=succeeded,
                active=ActiveRun(run_id, state, dated) if run_id else None,
                has_incident=f"Alert: {incident_key(dag_id)}" in open_incidents,
            )


def send(message: Notification) -> bool:
    """Send a notification; return whether it was delivered."""
    try:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("send_alert.py"))],
            input=json.dumps(asdict(message)),
            text=True,
            check=False,
            timeout=_SEND_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        print(
            f"send_alert.py took longer than {_SEND_TIMEOUT_S:g} s and was killed.",
            file=sys.stderr,
            flush=True,
        )
        return False
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
