"""The calls of the Docker API a runner needs, through the proxy at DOCKER_HOST.

Plain http.client, which every task has loaded: the docker package takes a third of a second to import, and
does not tell when a wait has begun.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from fraud_airflow.jobs import JobFailed, JobRefused

RECONNECT_S: Final = 30.0  # as long as a restart of the proxy may take
_CALL_S: Final = 120.0
_AGAIN_S: Final = 0.2
_HOST: Final = re.compile(r"tcp://([A-Za-z0-9][A-Za-z0-9.-]*):([0-9]{1,5})/?")

T = TypeVar("T")
Interrupted = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    content: bytes

    def document(self) -> Any:
        """The JSON in it; an empty object where there is none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return {}

    def message(self) -> str:
        """The daemon's or the proxy's sentence, without its full stop."""
        document = self.document()
        said = document.get("message") if isinstance(document, dict) else None
        return " ".join(str(said or f"status {self.status}").split())[:1000].rstrip(".")


def from_host(value: str | None) -> Docker:
    """The API at DOCKER_HOST.

    Raises:
        JobRefused: it names no proxy.
    """
    match = _HOST.fullmatch(value or "")
    if match is None:
        raise JobRefused(
            f"DOCKER_HOST={value or ''}: name the docker-proxy as tcp://HOST:PORT, or have jobs run as "
            "processes with JOB_RUNNER=process."
        )
    return Docker(match[1], int(match[2]))


class Docker:
    """Calls that outlast a restart of the proxy: each can be made again without harm."""

    def __init__(self, host: str, port: int, patience_s: float = RECONNECT_S) -> None:
        self._at = (host, port)
        self._patience_s = patience_s

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        patience_s: float | None = None,
    ) -> Answer:
        """The answer, whatever its status; the proxy and the daemon are waited for.

        Raises:
            JobFailed: they did not come back.
        """
        return self._patiently(lambda: self._call(method, path, query or {}, body), patience_s)

    def open(self, method: str, path: str, query: Mapping[str, Any]) -> Stream:
        """An answer that comes bit by bit, from its head on.

        Raises:
            JobFailed: likewise.
        """
        return self._patiently(lambda: self._open(method, path, query), None)

    def _patiently(self, ask: Callable[[], T], patience_s: float | None) -> T:
        deadline = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        while True:
            try:
                return ask()
            except Interrupted as error:
                if time.monotonic() > deadline:
                    host, port = self._at
                    raise JobFailed(
                        f"The Docker proxy at {host}:{port} does not answer ({error}): does docker-proxy run?"
                    ) from None
            time.sleep(_AGAIN_S)

    def _call(self, method: str, path: str, query: Mapping[str, Any], body: Any) -> Answer:
        with self._connected(_CALL_S) as connection:
            text = None if body is None else json.dumps(body)
            headers = {"Content-Type": "application/json"} if text else {}
            connection.request(method, _with(path, query), text, headers)
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
        if answer.status == 502:
            raise ConnectionError(answer.message())
        return answer

    def _open(self, method: str, path: str, query: Mapping[str, Any]) -> Stream:
        connection = http.client.HTTPConnection(*self._at, timeout=_CALL_S)
        try:
            connection.connect()
            wire = connection.sock
            # A job may say nothing for hours; a machine that is gone is noticed all the same.
            wire.settimeout(None)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.request(method, _with(path, query))
            response = connection.getresponse()
            if response.status == 502:
                raise ConnectionError(Answer(502, response.read()).message())
        except BaseException:
            connection.close()
            raise
        return Stream(wire, connection, response)

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(*self._at, timeout=timeout_s)
        try:
            yield connection
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer under way; a context manager that closes its connection."""

    wire: socket.socket
    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse

    def __enter__(self) -> http.client.HTTPResponse:
        return self.response

    def __exit__(self, *_: object) -> None:
        self.interrupt()
        self.response.close()
        self.connection.close()

    def interrupt(self) -> None:
        """Have whoever reads it, in whatever thread, find its end."""
        with suppress(OSError):
            self.wire.shutdown(socket.SHUT_RDWR)


def _with(path: str, query: Mapping[str, Any]) -> str:
    return f"{path}?{urlencode(query)}" if query else path
