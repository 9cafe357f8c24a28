"""The follower's own port: `/metrics`, `/health/live`, `/health/ready`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from config.settings import ConfigurationError

HealthCheck = Callable[[], tuple[bool, dict[str, Any]]]
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class' name
        """Log nothing, because scrapes are frequent."""


def serve(
    host: str, port: int, registry: CollectorRegistry, live: HealthCheck, ready: HealthCheck
) -> _Server:
    """Serve on `host:port` in separate threads until `shutdown`.

    Raises:
        ConfigurationError: the port cannot be bound.
    """
    metrics = make_wsgi_app(registry)
    states = {"/health/live": live, "/health/ready": ready}

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] != "GET":
            start("405 Method Not Allowed", [("Content-Type", "application/json"), ("Allow", "GET, HEAD")])
            return [b'{"detail": "Only GET and HEAD are answered."}']
        if path == "/metrics":
            result: Iterable[bytes] = metrics(environ, start)
            return result
        if path not in states:
            start("404 Not Found", [("Content-Type", "application/json")])
            return [b'{"detail": "There are /metrics, /health/live and /health/ready."}']
        good, detail = states[path]()
        start("200 OK" if good else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps({"status": "ok" if good else "unavailable", **detail}).encode()]

    try:
        server = make_server(host, port, _supporting_head(answer), server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise ConfigurationError(
            f"STREAM_METRICS_PORT: {host}:{port} cannot be bound ({error.strerror}): choose another port."
        ) from None
    assert isinstance(server, _Server)
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def _supporting_head(app: App) -> App:
    """Answer HEAD as GET without the body."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "HEAD":
            return app(environ, start)
        heads: list[tuple[str, list[tuple[str, str]]]] = []
        pieces = app(environ | {"REQUEST_METHOD": "GET"}, lambda *head: heads.append(head))
        status, headers = heads[0]
        start(status, [*headers, ("Content-Length", str(sum(map(len, pieces))))])
        return []

    return answer
