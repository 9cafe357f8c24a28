"""What the watch beside Airflow's scheduler exports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, start_http_server

HOST: Final = "AIRFLOW_WATCH_METRICS_HOST"
PORT: Final = "AIRFLOW_WATCH_METRICS_PORT"


class Unusable(Exception):
    """The metrics cannot be served; one sentence that names the variable."""


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
        self._shown: set[str] = set()

    def show(self, late: Mapping[str, timedelta], now: datetime) -> None:
        """How late each unpaused DAG is; one that is no longer among them is not exported."""
        self.looked.set(now.timestamp())
        for gone in self._shown - late.keys():
            self.overdue.remove(gone)
        for dag, time in late.items():
            self.overdue.labels(dag).set(time.total_seconds())
        self._shown = set(late)

    def serve(self, environ: Mapping[str, str]) -> None:
        """Answer Prometheus on HOST and PORT; where no port is set nobody asks.

        Raises:
            Unusable: the port cannot be had.
        """
        port = environ.get(PORT)
        if not port:
            return
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise Unusable(f"{PORT} is {port}: set a port number, as 8003.")
        host = environ.get(HOST) or "127.0.0.1"
        try:
            start_http_server(int(port), host, self.registry)
        except OSError as error:
            raise Unusable(
                f"{PORT}: {host}:{port} cannot be had ({error.strerror}): choose another."
            ) from None
