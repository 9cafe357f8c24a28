"""Requests over kept-alive connections, as many as are answered or at a given rate; light, on one core."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, cast

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
    return _run(_ClosedLoop(target, connections, seconds).run())


def steady(target: Target, rate: float, seconds: float) -> Load:
    """So many requests a second by the clock; a latency counts from the moment a request was due."""
    return _run(_Steady(target, rate, round(rate * seconds)).run())


def _run(measurement: Coroutine[Any, Any, Load]) -> Load:
    cpu = time.process_time()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        load = runner.run(measurement)
    load.cpu = time.process_time() - cpu
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


class _Generator:
    """Connections whose answers are checked and timed; what they do next is the subclass's."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.load = Load()
        self.connections: list[_Connection] = []

    def next(self, connection: _Connection) -> None:
        raise NotImplementedError

    async def measured(self, connections: int, work: Callable[[], Coroutine[Any, Any, None]]) -> Load:
        """Open the connections, do the work, and wait for the last answer."""
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = loop.create_future()
        for _ in range(connections):
            made = await loop.create_connection(self._connection, "127.0.0.1", self.target.port)
            self.connections.append(made[1])
        started = time.perf_counter()
        try:
            await work()
            await asyncio.wait_for(self.finished, ANSWER_SECONDS)
        finally:
            for connection in self.connections:
                connection.close()
        self.load.seconds = time.perf_counter() - started
        return self.load

    def finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)

    def _connection(self) -> _Connection:
        return _Connection(self._answered, self._failed)

    def _answered(self, connection: _Connection, body: bytes) -> None:
        self.load.latencies.append(time.perf_counter() - connection.due)
        if self.target.accepts(body):
            self.next(connection)
        else:
            self._failed(body[:1000].decode(errors="replace"))

    def _failed(self, reason: str) -> None:
        if not self.finished.done():
            self.finished.set_exception(Unanswered(reason))


class _ClosedLoop(_Generator):
    def __init__(self, target: Target, connections: int, seconds: float) -> None:
        super().__init__(target)
        self._left = connections
        self._seconds = seconds
        self._until = 0.0

    async def run(self) -> Load:
        return await self.measured(self._left, self._begin)

    async def _begin(self) -> None:
        self._until = time.perf_counter() + self._seconds
        for connection in self.connections:
            connection.send(self.target.request(), time.perf_counter())
        await asyncio.wait([self.finished], timeout=self._seconds)

    def next(self, connection: _Connection) -> None:
        if (now := time.perf_counter()) < self._until:
            connection.send(self.target.request(), now)
            return
        self._left -= 1
        if not self._left:
            self.finish()


class _Steady(_Generator):
    def __init__(self, target: Target, rate: float, count: int) -> None:
        super().__init__(target)
        self._rate = rate
        self._count = count
        self._idle: list[_Connection] = []
        self._waiting: deque[float] = deque()

    async def run(self) -> Load:
        return await self.measured(STEADY_CONNECTIONS, self._begin)

    async def _begin(self) -> None:
        self._idle = list(self.connections)
        started = time.perf_counter()
        for number in range(self._count):
            due = started + number / self._rate
            if (ahead := due - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            if self.finished.done():
                return
            if self._idle:
                self._idle.pop().send(self.target.request(), due)
            else:
                self._waiting.append(due)

    def next(self, connection: _Connection) -> None:
        if self._waiting:
            connection.send(self.target.request(), self._waiting.popleft())
        else:
            self._idle.append(connection)
        if len(self.load.latencies) == self._count:
            self.finish()


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
