"""The API's HTTP layer: heads and requests without end, offers to upgrade, clients that leave."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import psutil
import pytest

from tests.integration.raw_http import UPGRADE, connected, exchange, predict, read, send
from tests.support.api_server import (
    ApiServer,
    ForkedApi,
    cloned,
    creditcard,
    problem,
    scoring_server,
    wait_until,
)
from tests.support.waiting import eventually

HEAD_LIMIT: Final = 65_536
SECONDS: Final = 1
CONNECTIONS: Final = 8  # of the impatient server
MEGABYTE: Final = 1_000_000


@pytest.fixture(scope="module")
def module_database(template: Any, postgres_admin_url: str) -> Iterator[Any]:
    with cloned(template, postgres_admin_url, "api_http") as clone:
        yield clone


@pytest.fixture(scope="module")
def server(module_database: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api")
    with scoring_server(module_database, folder, extra={"LOG_LEVEL": "DEBUG"}) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A second server, with deadlines of a second and room for few connections."""
    log = tmp_path_factory.mktemp("impatient") / "api.log"
    changed = ForkedApi.changed(
        server,
        log,
        http_server__HEAD_SECONDS=SECONDS,
        body_limit__BODY_SECONDS=SECONDS,
        http_server__READING_SECONDS=SECONDS,
        http_server__MAX_CONNECTIONS=CONNECTIONS,
    )
    try:
        changed.start()
        yield changed
    finally:
        changed.stop()


@pytest.fixture(scope="module")
def token(server: ApiServer) -> str:
    return server.token()


def body() -> bytes:
    return json.dumps(creditcard()).encode()


# --- heads ----------------------------------------------------------------------------------------

START: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
HEADS: Final = {
    "300 lines of 1 MB": lambda: [START, *[b"X: %s\r\n" % (b"a" * MEGABYTE)] * 300, b"\r\n"],
    "100,000 small lines": lambda: [START, *(b"X-%d: a\r\n" % i * 100 for i in range(1000)), b"\r\n"],
    "one line of 100 MB": lambda: [START, b"X: ", *([b"a" * MEGABYTE] * 100), b"\r\n\r\n"],
    "a name of 100 KB": lambda: [START, b"X" * 100_000, b": a\r\n\r\n"],
    "one byte over": lambda: [padded(HEAD_LIMIT + 1)],
    "a request line of 1 MB": lambda: [b"GET /", b"a" * MEGABYTE, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    "a request line just over": lambda: [
        b"GET /" + b"a" * (HEAD_LIMIT - 40) + b" HTTP/1.1\r\nHost: localhost\r\nX: aaaaaaaa\r\n\r\n"
    ],
    "a query of 1 MB": lambda: [b"GET /?", b"a" * MEGABYTE, b" HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    "a method of 1 MB": lambda: [b"G" * MEGABYTE, b" / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
}


def padded(size: int) -> bytes:
    """A request without a body whose head is that long."""
    return START + b"X: " + b"a" * (size - len(START) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("name", HEADS)
def test_a_head_over_64_kib_is_answered_with_431_and_the_connection_closed(
    server: ApiServer, name: str
) -> None:
    memory = rss(server)
    with connected(server) as connection:
        send(connection, HEADS[name]())
        answer = read(connection)
    assert answer.statuses == [431]
    assert answer.closed
    assert rss(server) - memory < 10 * MEGABYTE
    assert server.get("/health/live").status_code == 200


def test_a_head_of_64_kib_is_read(server: ApiServer) -> None:
    with connected(server, 1) as connection:
        send(connection, [padded(HEAD_LIMIT)])
        assert read(connection).statuses == [200]


def rss(server: ApiServer) -> int:
    assert server.process is not None
    return int(psutil.Process(server.process.pid).memory_info().rss)


# --- deadlines and connections --------------------------------------------------------------------

FORM: Final = b"POST /auth/token HTTP/1.1\r\nHost: localhost\r\n"
SLOW: Final = {
    "nothing": ([], None),
    "a part of the request line": ([b"GET /hea"], None),
    "headers without end": ([START, *[b"X-More: a\r\n"] * 40], None),
    "a length and then no byte": ([FORM + b"Content-Length: 10\r\n\r\n"], 408),
    "a chunked body that does not begin": ([FORM + b"Transfer-Encoding: chunked\r\n\r\n"], 408),
    "a body that trickles in": ([FORM + b"Content-Length: 100\r\n\r\n", *[b"a"] * 40], 408),
    "kept alive and idle": ([START + b"\r\n"], 200),
    "kept alive and a second head without end": ([START + b"\r\n" + START], 200),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_request_that_does_not_come_is_ended(impatient: ApiServer, name: str) -> None:
    segments, status = SLOW[name]
    started = time.monotonic()
    with connected(impatient) as connection:
        send(connection, segments, pause=0.1)
        answer = read(connection)
    assert answer.closed
    assert answer.statuses == ([] if status is None else [status])
    assert time.monotonic() - started < 40 * 0.1 + 2 * SECONDS


def test_connections_are_bounded_and_those_beyond_wait_for_their_turn(impatient: ApiServer) -> None:
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            held.enter_context(connected(impatient))
        assert eventually(lambda: impatient.connections() == CONNECTIONS)
        with connected(impatient, 10) as late:
            started = time.monotonic()
            send(late, [START + b"\r\n"])
            assert late.recv(100).startswith(b"HTTP/1.1 200")
            assert time.monotonic() - started > 0.3 * SECONDS


def test_clients_that_do_not_read_give_their_connections_back(impatient: ApiServer) -> None:
    with ExitStack() as held:
        for _ in range(CONNECTIONS):
            connection = held.enter_context(connected(impatient, 0.3))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            send(connection, [b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 1000] * 50)
        assert impatient.get("/health/live").status_code == 200


# --- offers to upgrade ----------------------------------------------------------------------------

OTHER_OFFERS: Final = {
    "h2c": UPGRADE,
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "several": b"Connection: keep-alive, Upgrade\r\nUpgrade: h2c, TLS/1.0\r\n",
}


@pytest.mark.parametrize("offer", OTHER_OFFERS)
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "apart"])
def test_an_upgrade_that_is_offered_changes_nothing(
    server: ApiServer, token: str, offer: str, chunked: bool, apart: bool
) -> None:
    request = predict(token, body(), OTHER_OFFERS[offer], chunked=chunked)
    last = [START + b"Connection: close\r\n\r\n"]  # the connection goes on
    with connected(server) as connection:
        send(connection, request if apart else [b"".join(request)], pause=0.2)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        send(connection, [*predict(token, body(), OTHER_OFFERS[offer], chunked=chunked), *last], pause=0.1)
        answer = read(connection)
    assert answer.statuses == [200, 200]
    assert answer.closed


def test_an_upgrade_may_be_offered_by_pipelined_requests(server: ApiServer, token: str) -> None:
    requests = [segment for _ in range(5) for segment in predict(token, body(), UPGRADE)]
    last = START + b"Connection: close\r\n\r\n"
    assert exchange(server, b"".join(requests) + last).statuses == [200] * 6


def test_http_2_without_an_offer_is_refused(server: ApiServer) -> None:
    answer = exchange(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    assert answer.closed
    assert answer.statuses in ([], [400])


# --- clients that leave ---------------------------------------------------------------------------

LEAVING: Final[dict[str, Callable[[str], list[bytes]]]] = {
    "half a form": lambda _: [FORM + b"Content-Length: 100\r\n\r\n", b"grant"],
    "half a transaction": lambda token: [predict(token, body())[0], body()[:100]],
    "half a batch": lambda token: [predict(token, body(), path="/predict/batch")[0], b'{"trans'],
    "no byte of a body": lambda token: [predict(token, body())[0]],
    "half a chunk": lambda token: [predict(token, body(), chunked=True)[0], b"ff\r\n{"],
    "between chunks": lambda token: [predict(token, body(), chunked=True)[0], b"1\r\n{\r\n"],
}
MALFORMED: Final = {
    "a bad chunk size": b"zz\r\n{}\r\n0\r\n\r\n",
    "a bad chunk size later": b"2\r\n{}\r\nzz\r\n",
    "a chunk longer than its size": b"2\r\n{}{}\r\n0\r\n\r\n",
    "a chunk size over 64 bits": b"11111111111111111\r\n{}\r\n0\r\n\r\n",
}


@pytest.fixture
def quiet(server: ApiServer) -> Iterator[Callable[[str, float], None]]:
    """Waits until that many more requests count under the status; nothing may count as 500, nor be traced."""
    logged = server.log.stat().st_size
    errors = counted(server, "500")
    before: dict[str, float] = {status: counted(server, status) for status in ("499", "400")}

    def wait(status: str, more: float) -> None:
        wait_until(lambda: counted(server, status) == before[status] + more, server, 10)

    yield wait
    assert counted(server, "500") == errors
    lines = [json.loads(line) for line in server.log.read_bytes()[logged:].splitlines()]
    assert [line for line in lines if line["level"] not in ("debug", "info")] == []


def counted(server: ApiServer, status: str) -> float:
    return sum(
        server.metric(f'fraud_api_requests_total{{method="POST",route="{route}",status="{status}"}}')
        for route in ("/auth/token", "/predict", "/predict/batch")
    )


@pytest.mark.parametrize("name", LEAVING)
def test_a_client_that_leaves_is_counted_as_such(
    server: ApiServer, token: str, quiet: Callable[[str, float], None], name: str
) -> None:
    logged = server.log.stat().st_size
    for _ in range(6):
        with connected(server) as connection:
            send(connection, LEAVING[name](token), pause=0.02)
    quiet("499", 6)
    assert server.log.read_bytes()[logged:].count(b'"client_left"') == 6


@pytest.mark.parametrize("name", MALFORMED)
def test_chunks_that_are_malformed_are_the_clients_fault(
    server: ApiServer, token: str, quiet: Callable[[str, float], None], name: str
) -> None:
    head = predict(token, body(), chunked=True)[0]
    answer = exchange(server, head, MALFORMED[name])
    assert answer.closed
    assert answer.statuses == [400]
    quiet("499", 1)


def test_a_large_body_nobody_reads_does_not_hide_the_answer(server: ApiServer) -> None:
    with server.client() as client:
        for _ in range(3):
            large = b"a" * 4 * MEGABYTE
            problem(client.post("/predict", content=large, headers={"Authorization": "Bearer a"}), 401)
            problem(client.post("/nothing", content=large), 404)


def test_a_client_that_waits_to_be_asked_for_its_body_is_answered_at_once(server: ApiServer) -> None:
    head = predict("a", body(), b"Expect: 100-continue\r\n")[0]
    with connected(server) as connection:
        send(connection, [head])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 401")


# --- what it says of itself -----------------------------------------------------------------------


def test_no_version_is_told_and_every_line_of_the_log_is_json(server: ApiServer) -> None:
    assert server.get("/health/live").headers.get("server") in (None, "granian")
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"event", "level", "timestamp", "service"} <= set.intersection(*(set(line) for line in lines))
