"""What a task has around it: Variables and Connections of a supervisor, and services over real sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import comms, task_runner

_NO_CONNECTION = dict.fromkeys(["host", "schema", "login", "password", "port", "extra"])


@dataclass
class Supervisor:
    """Answers a task's messages as the supervisor of a real one does; `messages` are those that came."""

    variables: dict[str, str] = field(default_factory=dict)
    connections: dict[str, dict[str, Any]] = field(default_factory=dict)
    messages: list[Any] = field(default_factory=list)

    def send(self, message: Any) -> Any:
        self.messages.append(message)
        match message:
            case comms.GetVariable(key=key) if key in self.variables:
                return comms.VariableResult(key=key, value=self.variables[key])
            case comms.GetVariable():
                return comms.ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
            case comms.PutVariable(key=key, value=value):
                self.variables[key] = str(value)
            case comms.DeleteVariable(key=key):
                del self.variables[key]
            case comms.GetConnection(conn_id=conn_id) if conn_id in self.connections:
                fields = {**_NO_CONNECTION, "conn_id": conn_id, **self.connections[conn_id]}
                return comms.ConnectionResult.model_validate(fields)
            case comms.GetConnection():
                return comms.ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
            case comms.MaskSecret():
                return None
            case _:
                raise AssertionError(f"an unexpected message: {message!r}")
        return comms.OKResponse(ok=True)

    def count(self, kind: type) -> int:
        return sum(isinstance(message, kind) for message in self.messages)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    made = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), strict_parsing=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = tuple[int, Any]  # status, and a document or the bytes of a body


@dataclass
class HttpServer:
    """A server on a socket; `reply` decides, `requests` are those that came."""

    url: str
    requests: list[Request] = field(default_factory=list)
    reply: Callable[[Request], Reply] = lambda _request: (404, {})
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]


@pytest.fixture
def http_server() -> Iterator[HttpServer]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = dict(parse_qsl(parts.query))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, parts.path, query, headers, body)
            made.requests.append(request)
            status, document = made.reply(request)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in made.headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError):  # the client has given up
                self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """The test looks at `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = HttpServer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]
