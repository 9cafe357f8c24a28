"""Requests over kept-alive connections, as many as are answered or at a given rate; light, on one core."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

BODIES: Final = 64  # different transactions, each sent under ever new ids
STEADY_CONNECTIONS: Final = 32  # at a given rate; a request waits where all are busy, and that counts
ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and what is right as an answer.

    Attributes:
        head: everything before the length, up to and with `Content-Length: `.
        bodies: a new one for each request.
        accepts: whether a body is the answer that is due; other statuses than 200 are never right.
    """

    port: int
    head: bytes
    bodies: Iterator[bytes]
    accepts: Callable[[bytes], bool]

    def request(self) -> bytes:
        """The next request."""
        body = next(self.bodies)
        return b"%s%d\r\n\r\n%s" % (self.head, len(body), body)


@dataclass(slots=True)
class Load:
    """What one measurement gave.

    Attributes:
        latencies: seconds, one an answer.
        seconds: how long it took.
        cpu: seconds of processor time the generator itself used.
    """

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu: float = 0.0


class Unanswered(Exception):
    """An answer was not the one that is due, or did not come."""


def head(path: str, token: str, media_type: str = "application/json") -> bytes:
    """The head of a request, up to its length."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: "
    ).encode()


def closed_loop(target: Target, connections: int, seconds: float) -> Load:
    """Every connection sends the next request as soon as it has its answer."""
    return _run(_closed_loop(target, connections, seconds))


def steady(target: Target, rate: float, seconds: float) -> Load:
    """So many requests a second by the clock; a latency counts from the moment a request was due."""
    return _run(_steady(target, rate, seconds))


def _run(measurement: asyncio._CoroutineLike[Load]) -> Load:
    cpu, started = time.process_time(), time.perf_counter()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(measurement)
    load.cpu, load.seconds = time.process_time() - cpu, load.seconds or time.perf_counter() - started
    return load


class _Connection(asyncio.Protocol):
    """One request at a time; `answered` is called with each answer's body."""

    def __init__(self, answered: Callable[[_Connection, bytes], None], failed: Callable[[str], None]) -> None:
        self._answered = answered
        self._failed = failed
        self._received = b""
        self._wanted = 0  # bytes of the whole answer, once its head is there
        self._body_at = 0
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are, but do not say so

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self._transport.write(request)

    def close(self) -> None:
        self._failed = lambda _: None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if not self._wanted and not self._read_head():
            return
        if len(self._received) < self._wanted:
            return
        body = self._received[self._body_at : self._wanted]
        self._received, self._wanted = b"", 0
        self._answered(self, body)

    def connection_lost(self, error: Exception | None) -> None:
        self._failed(f"the server closed a connection: {error}")

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._received[:end].lower()
        if not lines.startswith(b"http/1.1 200"):
            self._failed(self._received[:1000].decode(errors="replace"))
            return False
        length = int(lines.partition(b"content-length:")[2].partition(b"\r\n")[0])
        self._body_at = end + 4
        self._wanted = self._body_at + length
        return True


async def _closed_loop(target: Target, connections: int, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    load = Load()
    left = connections

    def answered(connection: _Connection, body: bytes) -> None:
        nonlocal left
        now = time.perf_counter()
        load.latencies.append(now - connection.due)
        if not target.accepts(body):
            failed(body[:1000].decode(errors="replace"))
        elif now < until:
            connection.send(target.request(), time.perf_counter())
        else:
            left -= 1
            if not left and not finished.done():
                finished.set_result(None)

    def failed(reason: str) -> None:
        if not finished.done():
            finished.set_exception(Unanswered(reason))

    made = await _connect(target, connections, answered, failed)
    started = time.perf_counter()
    until = started + seconds
    for connection in made:
        connection.send(target.request(), time.perf_counter())
    await asyncio.wait_for(finished, seconds + ANSWER_SECONDS)
    load.seconds = time.perf_counter() - started
    for connection in made:
        connection.close()
    return load


async def _steady(target: Target, rate: float, seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    finished: asyncio.Future[None] = loop.create_future()
    load = Load()
    count = round(rate * seconds)
    waiting: deque[float] = deque()

    def answered(connection: _Connection, body: bytes) -> None:
        load.latencies.append(time.perf_counter() - connection.due)
        if not target.accepts(body):
            failed(body[:1000].decode(errors="replace"))
        elif waiting:
            connection.send(target.request(), waiting.popleft())
        else:
            idle.append(connection)
        if len(load.latencies) == count and not finished.done():
            finished.set_result(None)

    def failed(reason: str) -> None:
        if not finished.done():
            finished.set_exception(Unanswered(reason))

    made = await _connect(target, STEADY_CONNECTIONS, answered, failed)
    idle = list(made)
    started = time.perf_counter()
    for number in range(count):
        due = started + number / rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        if finished.done():
            break
        if idle:
            idle.pop().send(target.request(), due)
        else:
            waiting.append(due)
    await asyncio.wait_for(finished, ANSWER_SECONDS)
    load.seconds = time.perf_counter() - started
    for connection in made:
        connection.close()
    return load


async def _connect(
    target: Target,
    connections: int,
    answered: Callable[[_Connection, bytes], None],
    failed: Callable[[str], None],
) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(lambda: _Connection(answered, failed), "127.0.0.1", target.port))[1]
        for _ in range(connections)
    ]


def unused_bodies() -> Iterator[bytes]:
    """Transactions of the contract `creditcard`, none with an id that was used before."""
    rests = [json.dumps(record)[1:].encode() for record in creditcard_records(BODIES)]
    salt = random.SystemRandom().getrandbits(64)
    number = 0
    while True:
        number += 1
        yield b'{"transaction_id": "%016x-%d", ' % (salt, number) + rests[number % BODIES]


def creditcard_records(count: int) -> list[dict[str, float]]:
    """The fields of so many transactions, the same ones each time."""
    source = random.Random(1)
    return [
        {
            "time": round(source.uniform(0, 3e7), 2),
            "amount": round(source.lognormvariate(3, 1), 2),
            **{f"v{i}": round(source.gauss(0, 1.5), 6) for i in range(1, 29)},
        }
        for _ in range(count)
    ]
