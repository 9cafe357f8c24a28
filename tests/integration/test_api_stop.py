"""The API is told to stop: what has begun is answered, nothing new is taken, and nobody can hold it up."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psycopg2
import pytest

from tests.integration.raw_http import connected, predict, read, send
from tests.support.api_server import ApiServer, cloned, creditcard, scoring_server, wait_until
from tests.support.stored_rows import waits_for_a_lock
from tests.support.waiting import eventually

IN_FLIGHT: Final = 20
STOP_SECONDS: Final = 2
START: Final = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def module_database(template: Any, postgres_admin_url: str) -> Iterator[Any]:
    with cloned(template, postgres_admin_url, "api_stop") as clone:
        yield clone


@pytest.fixture(scope="module")
def served(module_database: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that every test starts and stops anew."""
    with scoring_server(module_database, tmp_path_factory.mktemp("api"), kind=ApiServer) as running:
        yield running


@pytest.fixture
def server(served: ApiServer) -> ApiServer:
    if served.process is None:
        served.start()
    return served


@contextmanager
def held_up(url: str) -> Iterator[None]:
    """No transaction is stored for so long."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE transactions")
        yield
        connection.commit()


def ended(server: ApiServer, seconds: float = 25) -> int:
    """The exit code."""
    assert server.process is not None
    code = server.process.wait(seconds)
    server.process = None
    return code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered_and_new_connections_refused(
    server: ApiServer, module_database: Any, number: signal.Signals
) -> None:
    token = server.token()
    assert server.process is not None
    head, body = predict(token, json.dumps(creditcard()).encode())
    with ThreadPoolExecutor(IN_FLIGHT) as pool, connected(server, 20) as half:
        with held_up(module_database.url("admin")):
            # One is being stored: those that come meanwhile wait for their turn.
            waiting = [pool.submit(one_prediction, server, token)]
            wait_until(lambda: waits_for_a_lock(module_database.url("admin")), server)
            waiting += [pool.submit(one_prediction, server, token) for _ in range(IN_FLIGHT - 1)]
            send(half, [head, body[:50]], pause=0.1)
            wait_until(lambda: server.metric("fraud_api_writer_waiting") == IN_FLIGHT - 1, server)
            server.process.send_signal(number)
            wait_until(lambda: not accepts(server), server)
            send(half, [body[50:]])
            assert server.process.poll() is None
        assert read(half).statuses == [200]
        assert [one.result() for one in waiting] == [200] * IN_FLIGHT
    assert ended(server) == 0
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert lines[-1] == {"status": "stopped"} or lines[-2] == {"status": "stopped"}


STALLED: Final[dict[str, list[bytes]]] = {
    "without a byte": [],
    "idle": [START + b"\r\n"],
    "half a head": [START],
    "half a body": [b"POST /auth/token HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n", b"a"],
    "not reading": [b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 3000],
}


def test_clients_that_stall_do_not_hold_it_up(served: ApiServer, tmp_path: Path) -> None:
    server = ApiServer.changed(served, tmp_path / "api.log", http_server__STOP_SECONDS=STOP_SECONDS)
    try:
        server.start()
        assert server.process is not None
        with ExitStack() as stack:
            for segments in STALLED.values():
                connection = stack.enter_context(connected(server, 1))
                send(connection, segments, pause=0.1)
            assert eventually(lambda: server.connections() == len(STALLED))
            stop_requested = time.monotonic()
            server.process.terminate()
            assert ended(server) == 0
            assert time.monotonic() - stop_requested < STOP_SECONDS + 3
    finally:
        server.stop()
    assert b'"connections_cut_off"' in server.log.read_bytes()
    assert b"Traceback" not in server.log.read_bytes()


def one_prediction(server: ApiServer, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(headers=headers, trust_env=False, timeout=30) as client:
        return client.post(f"{server.url}/predict", json=creditcard()).status_code


def accepts(server: ApiServer) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=2).close()
    except ConnectionRefusedError:
        return False
    return True
