"""Copies incidents and task runs from Airflow's database into the platform's, by the role `fraud_watch`.

The role may call a few functions and read one view: a task that took its password could read no
transaction.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psycopg2
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from config.services import ROLE_WATCH

sys.path.append(str(Path(__file__).resolve().parents[1] / "plugins"))
from fraud_airflow.alerting.incident import VARIABLE_PREFIX, Incident

PASSWORD: Final = "DB_PASSWORD_WATCH"  # noqa: S105 - its name
_FERNET: Final = "AIRFLOW__CORE__FERNET_KEY"
BATCH: Final = 2000
OVERLAP: Final = timedelta(minutes=5)  # a task run may become visible after later ones
_VARIABLES: Final = "SELECT key, val, is_encrypted FROM variable WHERE key LIKE %s"
# What became of each try; a task that was mapped counts once for each of its copies.
_TASK_RUNS: Final = """
SELECT dag_id, task_id, run_id, try_number, map_index, state, start_date, end_date, duration, operator, pool,
       queued_dttm
FROM (
    SELECT dag_id, task_id, run_id, try_number, map_index, state, start_date, end_date, duration, operator,
           pool, queued_dttm
    FROM task_instance WHERE state IN ('success', 'failed', 'skipped', 'upstream_failed')
    UNION ALL
    SELECT dag_id, task_id, run_id, try_number, map_index, state, start_date, end_date, duration, operator,
           pool, queued_dttm
    FROM task_instance_history
) AS tries
WHERE end_date >= %s ORDER BY end_date LIMIT %s
"""


def stored_incidents(cursor: Any, environ: Mapping[str, str]) -> Iterator[tuple[str, str, Incident]]:
    """Variable, its stored value and the incident, of each that can be read."""
    keys = [Fernet(key.strip()) for key in environ.get(_FERNET, "").split(",") if key.strip()]
    cursor.execute(_VARIABLES, (f"{VARIABLE_PREFIX}%",))
    for name, value, encrypted in cursor.fetchall():
        try:
            text = MultiFernet(keys).decrypt(value.encode()).decode() if encrypted else value
            yield name, value, Incident.from_json(text)
        except (InvalidToken, ValueError, TypeError, KeyError):
            continue  # the next alert of its key begins anew


def alert_row(incident: Incident) -> dict[str, Any]:
    """An incident as `record_alerts` takes it; its key and beginning identify it."""
    identity = f"{incident.key}@{incident.since.isoformat()}"
    ended = incident.worked_at if incident.closed_at is not None or incident.resolved else None
    return {
        "dedupe_key": hashlib.sha256(identity.encode()).hexdigest(),
        "source": "airflow",
        "severity": incident.severity,
        "title": incident.title,
        "raised_at": incident.since,
        "sent_at": incident.sent_at,
        "resolved_at": ended,
        "occurrences": incident.count,
        "details": {
            "key": incident.key,
            "text": incident.text,
            "link": incident.link,
            "refused_by": incident.refused_by,
        },
    }


class PlatformRecord:
    """The platform's database; a connection for each use, because the watch must outlive its restarts."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._parts = {
            "host": environ.get("DB_HOST") or "postgres",
            "port": environ.get("DB_PORT") or "5432",
            "dbname": environ.get("DB_NAME") or "fraud_detection",
            "user": ROLE_WATCH,
            "password": environ.get(PASSWORD, ""),
        }

    @property
    def is_configured(self) -> bool:
        return bool(self._parts["password"])

    def alerts(self, rows: Iterable[Mapping[str, Any]]) -> int:
        """Record alerts; return how many rows changed."""
        changed: int = self._ask("SELECT record_alerts(%s)", _json(list(rows)))[0][0]
        return changed

    def figures(self) -> list[tuple[str, dict[str, str], float]]:
        """Metric, labels and value of every series that is exported from tables."""
        return [(name, labels, float(value)) for name, labels, value in self._ask(_FIGURES)]

    def task_runs(self, airflow: Any) -> int:
        """Record the task runs that have ended since the last time; return how many were new."""
        [[until]] = self._ask("SELECT task_runs_recorded_until()")
        position, added = (until - OVERLAP if until else datetime(1970, 1, 1, tzinfo=UTC)), 0
        while True:
            with airflow.cursor() as cursor:
                cursor.execute(_TASK_RUNS, (position, BATCH))
                rows = [_task_run(row) for row in cursor.fetchall()]
            if rows:
                added += self._ask("SELECT record_task_runs(%s)", _json(rows))[0][0]
            if len(rows) < BATCH or rows[-1]["ended_at"] == position:
                return added
            position = rows[-1]["ended_at"]

    def forget_task_runs(self) -> int:
        """Remove the oldest of the task runs that are kept no longer; return how many."""
        removed: int = self._ask("SELECT forget_task_runs()")[0][0]
        return removed

    def _ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with (
            closing(
                psycopg2.connect(
                    **self._parts,
                    connect_timeout=5,
                    application_name="airflow-watch",
                    options="-c statement_timeout=10000",
                )
            ) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement, values)
            rows: list[tuple[Any, ...]] = cursor.fetchall()
            return rows


_FIGURES: Final = "SELECT metric, labels, value FROM platform_metrics WHERE value IS NOT NULL"


def forget(airflow: Any, name: str, value: str) -> None:
    """Delete the Variable of a closed incident, unless it holds a newer one by now."""
    with airflow.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")
        cursor.execute("DELETE FROM variable WHERE key = %s AND val = %s", (name, value))
        cursor.execute("SET default_transaction_read_only = on")


def _task_run(row: tuple[Any, ...]) -> dict[str, Any]:
    dag_id, task_id, run_id, try_number, map_index, state, began, ended, seconds, operator, pool, queued = row
    waited = (began - queued).total_seconds() if began and queued else None
    return {
        "dag_id": dag_id,
        "task_id": task_id if map_index < 0 else f"{task_id}[{map_index}]",
        "run_id": run_id,
        "try_number": try_number,
        "state": state or "removed",
        "started_at": began,
        "ended_at": ended,
        "duration_seconds": seconds,
        "details": {"operator": operator, "pool": pool, "queued_seconds": waited},
    }


def _json(value: Any) -> str:
    return json.dumps(value, default=datetime.isoformat)
