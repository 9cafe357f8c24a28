"""What the watch beside Airflow's scheduler exports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from environment import Refused, port_number
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
            Refused: it is not a port, or cannot be had.
        """
        port = port_number(environ, PORT, 8003)
        if port is None:
            return
        host = environ.get(HOST) or "127.0.0.1"
        try:
            start_http_server(port, host, self.registry)
        except OSError as error:
            raise Refused(
                f"{PORT}: {host}:{port} cannot be had ({error.strerror}): choose another."
            ) from None
