"""The metrics of the watch for overdue DAGs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from environment import SettingError, port_number
from prometheus_client import CollectorRegistry, Gauge, start_http_server

HOST: Final = "AIRFLOW_WATCH_METRICS_HOST"
PORT: Final = "AIRFLOW_WATCH_METRICS_PORT"


class WatchMetrics:
    """The metrics of one watch."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.overdue = Gauge(
            "fraud_airflow_overdue_seconds",
            "Since when a run of the DAG should have succeeded; below zero there is time left.",
            ("dag",),
            registry=self.registry,
        )
        self.looked = Gauge(
            "fraud_airflow_looked_timestamp_seconds",
            "When Airflow's database was last read.",
            registry=self.registry,
        )
        self._exported: set[str] = set()

    def show(self, late: Mapping[str, timedelta], now: datetime) -> None:
        """Set how late each unpaused DAG is; other DAGs are no longer exported."""
        self.looked.set(now.timestamp())
        for dag in self._exported - late.keys():
            self.overdue.remove(dag)
        for dag, time in late.items():
            self.overdue.labels(dag).set(time.total_seconds())
        self._exported = set(late)

    def serve(self, environ: Mapping[str, str]) -> None:
        """Serve the metrics on HOST and PORT; does nothing if no port is set.

        Raises:
            SettingError: it is not a port, or it is in use.
        """
        port = port_number(environ, PORT, 8003)
        if port is None:
            return
        host = environ.get(HOST) or "127.0.0.1"
        try:
            start_http_server(port, host, self.registry)
        except OSError as error:
            raise SettingError(
                f"{PORT}: {host}:{port} cannot be used ({error.strerror}): choose another one."
            ) from None
