"""The metrics for Prometheus, served on a separate port."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGIN_OUTCOMES: Final = ("ok", "wrong", "locked")
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.3, 0.6, 1.0, 2.5, 10.0)


class Metrics:
    """The metrics of one instance."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "fraud_audit_requests_total",
            "Requests answered.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "fraud_audit_request_seconds",
            "From the request to its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.logins = Counter(
            "fraud_audit_logins_total", "Log-ins by their outcome.", ("outcome",), registry=self.registry
        )
        self.labels = Counter(
            "fraud_audit_labels_total", "Labels that people stored.", ("label",), registry=self.registry
        )
        self.opened = Counter("fraud_audit_cases_opened_total", "Cases opened.", registry=self.registry)
        self.database_up = Gauge(
            "fraud_audit_database_up", "1 if the database answered last.", registry=self.registry
        )
        # A counter that first appears as 1 has not increased: its first event would be missed.
        for outcome in LOGIN_OUTCOMES:
            self.logins.labels(outcome)
        for label in ("fraud", "legitimate"):
            self.labels.labels(label)


class MeasureRequests:
    """ASGI middleware: counts responses by route and status, and measures their latency."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = perf_counter()

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            # Paths without a route are unbounded, so they must not become label values.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope.get("route") else "any"
            self._metrics.requests.labels(method, route, status).inc()
            self._metrics.latency.labels(route).observe(perf_counter() - started)
