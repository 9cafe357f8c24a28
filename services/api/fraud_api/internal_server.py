"""The port of the internal network alone: metrics for Prometheus, and routes for the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from prometheus_client import start_http_server

from fraud_api.service import ScoringService
from fraud_core.canary.http_release import gateway_document

GATEWAY: Final = "/gateway"  # Traefik's HTTP provider asks for it
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def start(host: str, port: int, service: ScoringService) -> None:
    """Serve in a thread of its own.

    Raises:
        OSError: the port cannot be used.
    """
    server, _ = start_http_server(port, host, service.metrics.registry)
    metrics = server.get_app()
    assert metrics is not None
    server.set_app(application(metrics, service))


def application(metrics: Application, service: ScoringService) -> Application:
    """The metrics' application with the gateway's route in front."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != GATEWAY:
            return metrics(environ, start_response)
        watch = service.release_watch
        # The gateway keeps what it was told before until the database has said whether a release runs.
        status = "200 OK" if watch.is_known else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [orjson.dumps(gateway_document(watch.phase)) if watch.is_known else b""]

    return answer
