"""The metrics of the watch: DAGs, alerts, and what jobs have stored in the platform's database."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from environment import SettingError, port_number
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.metrics import BY_NAME

HOST: Final = "AIRFLOW_WATCH_METRICS_HOST"
PORT: Final = "AIRFLOW_WATCH_METRICS_PORT"
SEVERITIES: Final = ("medium", "high", "critical")
TASK_STATES: Final = ("scheduled", "queued", "running", "up_for_retry")
# What the view `platform_metrics` gives; other names in it are not exported.
FIGURES: Final = frozenset(
    name
    for name in BY_NAME
    if name.startswith(("fraud_drift_", "fraud_quality_", "fraud_performance_", "fraud_database_"))
) | {
    "fraud_alerts_raised_total",
    "fraud_alerts_open",
    "fraud_alert_outbox_waiting",
    "fraud_dead_letters_stored",
    "fraud_model_versions",
    "fraud_retraining_triggers_open",
}


class PlatformFigures(Collector):
    """The latest figures of the platform's database; none while it cannot be read."""

    def __init__(self) -> None:
        self.rows: Sequence[tuple[str, Mapping[str, str], float]] = ()

    def collect(self) -> Iterator[Metric]:
        families = {name: _family(name) for name in sorted(FIGURES)}
        for name, labels, value in self.rows:
            if name in families and set(labels) == set(BY_NAME[name].labels):
                families[name].add_metric([labels[label] for label in BY_NAME[name].labels], value)
        yield from families.values()


def _family(name: str) -> GaugeMetricFamily | CounterMetricFamily:
    metric = BY_NAME[name]
    family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return family(name, metric.meaning, labels=metric.labels)


class WatchMetrics:
    """The metrics of one watch."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.overdue = self._gauge("fraud_airflow_overdue_seconds")
        self.looked = self._gauge("fraud_airflow_looked_timestamp_seconds")
        self.running = self._gauge("fraud_airflow_run_seconds")
        self.usual = self._gauge("fraud_airflow_run_usual_seconds")
        self.tasks = self._gauge("fraud_airflow_tasks")
        self.jobs = self._gauge("fraud_airflow_heartbeat_timestamp_seconds")
        self.undelivered = self._gauge("fraud_alert_undelivered")
        self.waiting = self._gauge("fraud_alert_waiting")
        self.heartbeat = self._gauge("fraud_alert_heartbeat_timestamp_seconds")
        self.recorded = self._gauge("fraud_platform_read_timestamp_seconds")
        name = "fraud_airflow_task_runs_recorded_total"
        self.task_runs = Counter(name, BY_NAME[name].meaning, registry=self.registry)
        self._figures = PlatformFigures()
        self.registry.register(self._figures)
        self._open: set[str] = set()
        self._exported: dict[Gauge, set[str]] = {}

    def _gauge(self, name: str) -> Gauge:
        return Gauge(name, BY_NAME[name].meaning, BY_NAME[name].labels, registry=self.registry)

    def _set(self, gauge: Gauge, values: Mapping[str, float]) -> None:
        """Set one series a label value; others are no longer exported."""
        for label in self._exported.get(gauge, set()) - values.keys():
            gauge.remove(label)
        for label, value in values.items():
            gauge.labels(label).set(value)
        self._exported[gauge] = set(values)

    def show(self, late: Mapping[str, timedelta], now: datetime) -> None:
        """Set how late each unpaused DAG is; other DAGs are no longer exported."""
        self.looked.set(now.timestamp())
        self._set(self.overdue, {dag: time.total_seconds() for dag, time in late.items()})

    def show_airflow(
        self,
        running: Mapping[str, float],
        usual: Mapping[str, float],
        tasks: Mapping[str, int],
        jobs: Mapping[str, float],
    ) -> None:
        """Set the seconds of running and of usual runs by DAG, tasks by state, and heartbeats by job."""
        self._set(self.running, running)
        self._set(self.usual, usual)
        self._set(self.tasks, {state: tasks.get(state, 0) for state in TASK_STATES})
        self._set(self.jobs, jobs)

    def show_alerts(self, incidents: Iterable[Any]) -> None:
        """Set how many incidents wait and how many are undelivered."""
        known = [incident for incident in incidents if incident.closed_at is None]
        self._open = {incident.key for incident in known}
        for severity in SEVERITIES:
            of_it = [incident for incident in known if incident.severity == severity]
            self.waiting.labels(severity).set(sum(incident.is_waiting for incident in of_it))
            self.undelivered.labels(severity).set(sum(incident.is_undelivered for incident in of_it))

    def is_open(self, key: str) -> bool:
        return key in self._open

    def show_figures(self, rows: Iterable[tuple[str, Mapping[str, str], float]]) -> None:
        self._figures.rows = tuple(rows)


class _QuietHandler(WSGIRequestHandler):
    timeout = 30  # seconds in which a client must have sent its request

    def log_message(self, *_: Any) -> None:
        """A scrape every few seconds is not worth a line."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def serve(application: Any, environ: Mapping[str, str]) -> None:
    """Serve the application on HOST and PORT in a thread; does nothing if no port is set.

    Raises:
        SettingError: it is not a port, or it is in use.
    """
    port = port_number(environ, PORT, 8003)
    if port is None:
        return
    host = environ.get(HOST) or "127.0.0.1"
    try:
        server = make_server(host, port, application, _Server, _QuietHandler)
    except OSError as error:
        raise SettingError(
            f"{PORT}: {host}:{port} cannot be used ({error.strerror}): choose another one."
        ) from None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
