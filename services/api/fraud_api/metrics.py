"""The metrics for Prometheus, served on a separate port."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_api.body_limit import AWAITED, CLIENT_LEFT
from fraud_core.decision import Decision

SCORING_ROUTES: Final = ("/predict", "/predict/batch")
REFUSAL_REASONS: Final = ("no_champion", "not_recorded", "gate", "artefact", "unavailable")
SHADOW_OUTCOMES: Final = ("scored", "shed", "failed")
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)
CLIENT_LEFT_STATUS: Final = 499  # nginx's status for a client that closed the connection early
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_LATENCY: Final = "From the request's head to its answer, without the time in which its body was awaited."
_WRITER_ROWS: Final = "Transactions stored in one database transaction."


class Metrics:
    """The metrics of one application instance."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.requests = counter(
            "fraud_api_requests_total", "Requests answered.", ("method", "route", "status")
        )
        self.latency = histogram("fraud_api_request_seconds", _LATENCY, ("route",), buckets=BUCKETS)
        self.scored = counter("fraud_api_scored_total", "Transactions scored.", ("route", "decision"))
        self.replayed = counter("fraud_api_replayed_total", "Transactions that were already decided.")
        self.model = gauge(
            "fraud_api_model_info", "The champion that is served.", ("version", "digest", "gate")
        )
        self.model_refused = counter(
            "fraud_api_model_refused_total", "Model versions not taken over.", ("reason",)
        )
        self.canary_percent = gauge(
            "fraud_api_canary_percent", "The share of cards that a canary serves here, 0 without one."
        )
        self.canary_failures = counter(
            "fraud_api_canary_failures_total", "Calls in which the champion had to decide for a canary."
        )
        self.shadow_loaded = gauge("fraud_api_shadow_loaded", "1 while a shadow scores here.")
        self.shadow = counter(
            "fraud_api_shadow_total", "Transactions that a shadow has scored, or left out.", ("outcome",)
        )
        self.dependency_up = gauge(
            "fraud_api_dependency_up", "1 if the part answered the latest check.", ("part",)
        )
        self.lag = gauge(
            "fraud_kafka_lag_records", "Records between the stored positions and the end.", ("topic",)
        )
        self.writer_rows = histogram("fraud_api_writer_rows", _WRITER_ROWS, buckets=_SIZES)
        self.writer_waiting = gauge("fraud_api_writer_waiting", "Requests waiting to be stored.")
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A counter that first appears as 1 has not increased: its first event would be missed."""
        for route in SCORING_ROUTES:
            for decision in Decision:
                self.scored.labels(route, decision)
        for outcome in SHADOW_OUTCOMES:
            self.shadow.labels(outcome)
        for reason in REFUSAL_REASONS:
            self.model_refused.labels(reason)


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
            if CLIENT_LEFT in scope:
                status = CLIENT_LEFT_STATUS
            # Paths without a route are unbounded, so they must not become label values.
            route = getattr(scope.get("route"), "path", "unmatched")
            method = scope["method"] if scope.get("route") else "any"
            self._metrics.requests.labels(method, route, status).inc()
            seconds = perf_counter() - started - scope.get(AWAITED, 0.0)
            self._metrics.latency.labels(route).observe(seconds)
