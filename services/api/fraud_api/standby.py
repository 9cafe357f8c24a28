"""Waits, with little memory, until a release over HTTP needs the replica.

It imports no model library: a replica that waits takes a third of the memory of one that serves.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from config.settings import (
    ApiServerSettings,
    ConfigurationError,
    DatabaseSettings,
    PlatformSettings,
    contract,
    load,
)
from fraud_adapters.job.logs import get_logger
from fraud_adapters.postgres import DatabaseUnavailable
from fraud_adapters.postgres.deployments import Deployment, running_deployment
from fraud_adapters.postgres.session import Session
from fraud_core.canary.lifecycle import Mode

POLL_SECONDS: Final = 1.0
LIVE: Final = "/health/live"
DETAIL: Final = "No release over HTTP runs."
_NOT_READY: Final[dict[str, Any]] = {
    "type": "about:blank",
    "title": "Service Unavailable",
    "status": 503,
    "detail": "Not ready: model.",
    "parts": {"model": {"state": "missing", "detail": DETAIL}},
}


class _Handler(BaseHTTPRequestHandler):
    """Alive, and ready for nothing."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fraud-api", ""

    def do_GET(self) -> None:
        if self.path == LIVE:
            self._answer(HTTPStatus.OK, "application/json", {"status": "ok"})
        else:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "application/problem+json", _NOT_READY)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that the class looks for

    def log_message(self, *_: Any) -> None:
        """Requests are counted by whoever serves."""

    def _answer(self, status: HTTPStatus, media_type: str, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        # A body that was sent along is not read, so the connection cannot be used again.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def wait_for_release() -> None:
    """Return once a release over HTTP is open; its validation takes longer than the start that follows.

    Raises:
        ConfigurationError: a setting is missing or wrong, or a port is in use.
    """
    settings, name = load(ApiServerSettings), contract(load(PlatformSettings)).registered_model
    session = Session(load(DatabaseSettings).url, "fraud_api standby")
    try:
        if _is_needed(session, name):
            return
        server = _listening(settings)
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        metrics, _ = start_http_server(settings.api_metrics_port, settings.metrics_host, registry)
        Thread(target=server.serve_forever, daemon=True).start()
        get_logger(__name__).info("standing_by", port=settings.api_port)
        while not _is_needed(session, name):
            sleep(POLL_SECONDS)
        for one in (server, metrics):
            one.shutdown()
            one.server_close()
    finally:
        session.close()


def _listening(settings: ApiServerSettings) -> ThreadingHTTPServer:
    try:
        return ThreadingHTTPServer((settings.api_host, settings.api_port), _Handler)
    except OSError as error:
        raise ConfigurationError(
            f"API_PORT: port {settings.api_port} of {settings.api_host} cannot be used ({error.strerror}): "
            "choose another one."
        ) from None


def _is_needed(session: Session, name: str) -> bool:
    def work(cursor: Any) -> Deployment | None:
        return running_deployment(cursor, name)

    try:
        running = session.run(work)
    except DatabaseUnavailable:
        return False
    return running is not None and running.mode is Mode.HTTP
