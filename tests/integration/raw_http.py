"""HTTP over raw sockets, for requests that no client library sends."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tests.support.api_server import ApiServer

# What Java's HttpClient and `curl --http2` offer with their first request.
UPGRADE: Final = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n"
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The bytes received until the server closed the connection or stopped sending, and the time of that."""

    received: bytes
    closed: bool
    seconds: float

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", self.received)]


def connected(server: ApiServer, seconds: float = 10) -> socket.socket:
    """A connection with this timeout."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=seconds)


def exchange(server: ApiServer, *segments: bytes, pause: float = 0.05, seconds: float = 10) -> Exchange:
    """Send the segments one after the other on one connection and read until it is closed."""
    with connected(server, seconds) as connection:
        send(connection, segments, pause)
        return read(connection)


def send(connection: socket.socket, segments: Iterable[bytes], pause: float = 0) -> bool:
    """Whether everything could be sent; a server may refuse in mid-request."""
    for number, segment in enumerate(segments):
        if number:
            time.sleep(pause)
        try:
            connection.sendall(segment)
        except OSError:
            return False
    return True


def read(connection: socket.socket) -> Exchange:
    """Read until the server closes the connection, or until its timeout."""
    started = time.monotonic()
    received, closed = b"", False
    with suppress(TimeoutError):
        while not closed:
            try:
                part = connection.recv(65_536)
            except ConnectionError:
                part = b""
            received, closed = received + part, not part
    return Exchange(received, closed, time.monotonic() - started)


def predict(
    token: str, body: bytes, *headers: bytes, chunked: bool = False, path: str = "/predict"
) -> list[bytes]:
    """Head and body of a call of `/predict`, each a segment of its own."""
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    lines = [
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n".encode(),
        b"Content-Type: application/json\r\n",
        length + b"\r\n",
        *headers,
        b"\r\n",
    ]
    return [b"".join(lines), b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body]
