"""Questions that tell whether a server is ready. Each answers yes or no within about a second."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import urllib.request
from typing import Any, cast

import psycopg2

HOST = "127.0.0.1"
_API_VERSIONS = 18


def direct() -> urllib.request.OpenerDirector:
    """Opens addresses of this machine, whatever proxy the environment names."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http_ok(port: int, path: str) -> bool:
    """Whether `GET path` answers 2xx."""
    status = http_status(port, path)
    return status is not None and 200 <= status < 300


def http_status(port: int, path: str) -> int | None:
    """The status of `GET path`; None without an answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def json_at(port: int, path: str, keys: tuple[str, ...]) -> object:
    """The value below `keys` in what `GET path` answers; None where there is none."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        value: Any = json.loads(connection.getresponse().read())
        for key in keys:
            value = value[key]
    except (OSError, ValueError, LookupError, TypeError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return cast(object, value)


def tcp_open(port: int) -> bool:
    """Whether anything listens."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def postgres_answers(url: str) -> bool:
    """Whether the server lets us in and runs a statement; a wrong password is an error, not a "no"."""
    try:
        connection = psycopg2.connect(url, connect_timeout=2)
    except psycopg2.OperationalError as error:
        if "password authentication failed" in str(error):
            raise
        return False
    connection.close()
    return True


def kafka_answers(port: int) -> bool:
    """Whether a broker answers an ApiVersions request (version 0, the one every broker must take)."""
    header = struct.pack(">hhih", _API_VERSIONS, 0, 1, 5) + b"probe"
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(struct.pack(">i", len(header)) + header)
            return len(connection.recv(4)) == 4
    except OSError:
        return False
