"""The part of the watch that is about alerts: records incidents, and has those delivered that wait."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import psycopg2
from alert_records import PlatformRecord, alert_row, forget, stored_incidents
from overdue import Kind, Notification
from watch_metrics import WatchMetrics

from fraud_airflow.alerting.incident import RETRY_AFTER, Incident
from fraud_airflow.alerting.quiet import QuietHours, quiet_hours

HEARTBEAT_MINUTES: Final = "ALERT_HEARTBEAT_MINUTES"
_TASK_RUNS_EVERY: Final = timedelta(seconds=30)
_FORGET_EVERY: Final = timedelta(hours=1)
_FIGURES_EVERY: Final = timedelta(seconds=15)
_PATH_KEY: Final = "alert path: prometheus"
_PATH_TEXT: Final = (
    "Neither Prometheus nor Alertmanager has given a sign of life for {minutes:g} minutes, so nobody hears "
    "of what they watch: see docs/runbooks/AlertPathDead.md."
)


class Heartbeat:
    """The signs of life of Prometheus and Alertmanager; another thread receives them."""

    def __init__(self, minutes: float | None, now: datetime) -> None:
        self._patience = None if minutes is None else timedelta(minutes=minutes)
        self._lock = threading.Lock()
        self._since = now
        self.seen: datetime | None = None

    def beat(self, now: datetime) -> None:
        with self._lock:
            self.seen = now

    def is_dead(self, now: datetime) -> bool:
        with self._lock:
            return self._patience is not None and now - (self.seen or self._since) > self._patience

    def text(self) -> str:
        assert self._patience is not None
        return _PATH_TEXT.format(minutes=self._patience.total_seconds() / 60)


class AlertWatch:
    """What the watch remembers of alerts between two looks."""

    def __init__(
        self,
        record: PlatformRecord,
        metrics: WatchMetrics,
        heartbeat: Heartbeat,
        send: Callable[[Notification], bool],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._record, self._metrics, self._heartbeat, self._send = record, metrics, heartbeat, send
        self._environ = environ
        self._quiet = _quiet(environ)
        self._recorded: dict[str, str] = {}
        self._tried: dict[str, datetime] = {}
        self._next_task_runs = self._next_figures = self._next_forget = datetime.min.replace(tzinfo=UTC)
        self._path_is_dead = False
        self._failing = ""

    def check(self, airflow: Any, now: datetime) -> None:
        """Look once. That the platform's database fails is logged once, and keeps nothing else from it."""
        with airflow.cursor() as cursor:
            stored = list(stored_incidents(cursor, self._environ))
        self._metrics.show_alerts([incident for _, _, incident in stored])
        self._check_path(now)
        self._deliver([incident for _, _, incident in stored], now)
        if not self._record.is_configured:
            return
        try:
            self._store(airflow, stored, now)
        except psycopg2.Error as error:
            self._metrics.show_figures(())
            if self._failing != (name := type(error).__name__):
                print(f"Alerts cannot be recorded ({name}).", file=sys.stderr, flush=True)
            self._failing = name
        else:
            self._failing = ""
            self._metrics.recorded.set(now.timestamp())

    def _store(self, airflow: Any, stored: list[tuple[str, str, Incident]], now: datetime) -> None:
        changed = [entry for entry in stored if self._recorded.get(entry[0]) != entry[1]]
        if changed:
            self._record.alerts(alert_row(incident) for _, _, incident in changed)
        self._recorded = {name: value for name, value, _ in stored}
        for name, value, incident in stored:
            if incident.closed_at is not None:
                forget(airflow, name, value)
        if now >= self._next_task_runs:
            self._metrics.task_runs.inc(self._record.task_runs(airflow))
            self._next_task_runs = now + _TASK_RUNS_EVERY
        if now >= self._next_forget:
            self._record.forget_task_runs()
            self._next_forget = now + _FORGET_EVERY
        if now >= self._next_figures:
            self._metrics.show_figures(self._record.figures())
            self._next_figures = now + _FIGURES_EVERY

    def _deliver(self, incidents: list[Incident], now: datetime) -> None:
        self._tried = {key: at for key, at in self._tried.items() if now - at < RETRY_AFTER}
        for incident in incidents:
            if not incident.is_waiting or not incident.may_be_tried(now) or incident.key in self._tried:
                continue
            if not self._quiet.apply(incident.severity, now):
                self._tried[incident.key] = now
                self._send(Notification(Kind.DELIVER, "", incident.key))

    def _check_path(self, now: datetime) -> None:
        seen = self._heartbeat.seen
        self._metrics.heartbeat.set(0 if seen is None else seen.timestamp())
        was_tried = _PATH_KEY in self._tried
        if self._heartbeat.is_dead(now):
            if not self._path_is_dead and not was_tried:
                title = "Prometheus's path of alerts is dead"
                message = Notification(Kind.ALERT, "", _PATH_KEY, title, self._heartbeat.text(), "high")
                self._path_is_dead = self._send(message)
                self._tried[_PATH_KEY] = now
        elif self._path_is_dead or (seen is not None and self._metrics.is_open(_PATH_KEY) and not was_tried):
            self._send(Notification(Kind.RESOLVE, "", _PATH_KEY))
            self._path_is_dead = False
            self._tried[_PATH_KEY] = now


def _quiet(environ: Mapping[str, str]) -> QuietHours:
    try:
        return quiet_hours(environ.get("ALERT_QUIET_HOURS", ""), environ.get("ALERT_TIMEZONE") or "UTC")
    except ValueError as error:
        print(f"{error} No hours are quiet.", file=sys.stderr, flush=True)
        return quiet_hours("", "UTC")
