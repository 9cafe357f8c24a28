"""The generator of the benchmarks: how many requests it sends, when, and what it takes for an answer."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.benchmarks import http_load, rounds
from tests.benchmarks.http_load import Target, Unanswered

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


@contextmanager
def server(answer: bytes, takes: float = 0.0) -> Iterator[tuple[int, list[bytes]]]:
    """Answers each request after that time; its port, and the bodies it has read."""
    bodies: list[bytes] = []
    loop = asyncio.new_event_loop()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.partition(b"Content-Length: ")[2].split()[0])
            bodies.append(await reader.readexactly(length))
            await asyncio.sleep(takes)
            half = len(answer) // 2
            writer.write(answer[:half])
            await asyncio.sleep(0)
            writer.write(answer[half:])

    async def until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = loop.run_until_complete(asyncio.start_server(until_gone, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield listening.sockets[0].getsockname()[1], bodies
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def target(port: int) -> Target:
    bodies = (b"%d" % number for number in itertools.count())
    return Target(port, http_load.head("/predict", "a.b.c"), bodies, lambda body: body == b"ok")


def test_every_connection_sends_again_once_it_is_answered() -> None:
    with server(OK + b"ok", takes=0.05) as (port, bodies):
        load = http_load.closed_loop(target(port), 3, 0.3)
    assert len(load.latencies) == len(bodies) == len(set(bodies))
    assert 9 <= len(bodies) <= 21  # 3 connections, at most six rounds and the last
    assert min(load.latencies) >= 0.05
    assert 0.3 <= load.seconds < 5


def test_a_steady_load_waits_for_nobody_and_counts_from_when_it_was_due() -> None:
    with server(OK + b"ok", takes=0.4) as (port, bodies):
        # 400 a second meet 32 connections that bear 80.
        load = http_load.steady(target(port), 400, 0.2)
    assert len(load.latencies) == len(bodies) == 80
    assert max(load.latencies) > 2 * 0.4


@pytest.mark.parametrize(
    "answer", [OK + b"no", b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nok"]
)
def test_an_answer_that_is_not_due_ends_the_measurement(answer: bytes) -> None:
    with server(answer) as (port, _), pytest.raises(Unanswered):
        http_load.closed_loop(target(port), 1, 5)


def test_a_median_shows_its_spread() -> None:
    assert rounds.spread([1200.0, 3000.4, 999.0]) == "1,200 (999–3,000)"
    assert rounds.spread([0.5], 2) == "0.50"
