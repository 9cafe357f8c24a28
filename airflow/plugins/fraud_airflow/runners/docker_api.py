"""The calls of the Docker API a runner needs, through the proxy at DOCKER_HOST.

Plain http.client, which every task has loaded: the docker package takes a third of a second to import, and
does not tell when a wait has begun.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlencode

from fraud_airflow.jobs import JobFailed, JobRefused

RECONNECT_S: Final = 30.0  # as long as a restart of the proxy may take
_CALL_S: Final = 120.0
_AGAIN_S: Final = 0.2
_LOOK_S: Final = 1.0
_HOST: Final = re.compile(r"tcp://([A-Za-z0-9][A-Za-z0-9.-]*):([0-9]{1,5})/?")

T = TypeVar("T")
_Interrupted = (OSError, http.client.HTTPException)


class Broken(Exception):
    """A stream ended before its end."""


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
            except _Interrupted as error:
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

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.interrupt()
        self.response.close()
        self.connection.close()

    def answer(self, limit: int | None = None) -> Answer:
        """All of it, or as much as `limit` bytes.

        Raises:
            Broken: the connection is gone.
        """
        try:
            return Answer(self.response.status, self.response.read(limit))
        except _Interrupted as error:
            raise Broken(str(error)) from None

    def read1(self, n: int = -1, /) -> bytes:
        """What is there, at most `n` bytes; nothing at the end.

        Raises:
            Broken: the connection is gone.
        """
        try:
            self._await()
            return self.response.read1(n)
        except _Interrupted as error:
            raise Broken(str(error)) from None

    def _await(self) -> None:
        # A signal that comes just before a call blocks is handled when the call returns: so none blocks long.
        while not self._has_some() and not select.select([self.wire], [], [], _LOOK_S)[0]:
            pass

    def _has_some(self) -> bool:
        """Whether something is read already that nobody took; also at the end."""
        buffer = cast("io.BufferedReader | None", self.response.fp)
        self.wire.setblocking(False)
        try:
            return buffer is None or bool(buffer.peek(1))
        finally:
            self.wire.setblocking(True)

    def interrupt(self) -> None:
        """Have whoever reads it, in whatever thread, find its end."""
        with suppress(OSError):
            self.wire.shutdown(socket.SHUT_RDWR)


def _with(path: str, query: Mapping[str, Any]) -> str:
    return f"{path}?{urlencode(query)}" if query else path
