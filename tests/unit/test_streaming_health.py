"""The follower's own port: what is asked by GET can be asked by HEAD."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Counter

from fraud_embedded.processes.ports import free_ports
from fraud_streaming.follow.health import serve


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    registry = CollectorRegistry()
    Counter("read", "Records read.", registry=registry)
    number = free_ports(1)[0]
    server = serve("127.0.0.1", number, registry, lambda: (True, {}), lambda: (False, {"why": "starting"}))
    yield number
    server.shutdown()
    server.server_close()


def send_request(port: int, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/health/ready", 503), ("/metrics", 200), ("/other", 404)]
)
def test_head_is_get_without_the_body(port: int, path: str, status: int) -> None:
    got, headers, body = send_request(port, "GET", path)
    assert (got, bool(body)) == (status, True)
    head_status, head_headers, _ = send_request(port, "HEAD", path)
    assert head_status == status
    assert head_headers["content-type"] == headers["content-type"]
    assert int(head_headers["content-length"]) == len(body)


def test_no_byte_of_a_body_follows_the_head(port: int) -> None:
    # A client library may drop what a server must not have sent.
    with socket.create_connection(("127.0.0.1", port), 5) as raw, raw.makefile("rb") as answer:
        raw.sendall(b"HEAD /health/ready HTTP/1.0\r\n\r\n")
        received = answer.read()
    assert received.startswith(b"HTTP/1.0 503 ")
    assert received.partition(b"\r\n\r\n")[2] == b""


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/health/live", "/metrics"])
def test_another_method_is_refused(port: int, method: str, path: str) -> None:
    status, headers, _ = send_request(port, method, path)
    assert (status, headers["allow"]) == (405, "GET, HEAD")
