"""500 clients that mean no good: what the API's memory grows by, and how long others wait for `/predict`.

    python tests/benchmarks/slow_clients.py [--seconds 60] [--clients 500]

Starts its own durable servers. Each kind of client is at it for that long, while four others send
transactions, ten a second each, every one on a new connection. A bad client begins anew a second after the
server has closed its connection. Fails where the memory grows by 50 MB, or where a transaction of the others
is not answered. Prints a table and, as the last line, JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import psutil

from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from tests.benchmarks.predict import answer, unused_bodies
from tests.benchmarks.servers import running
from tests.integration.api_server import ApiServer

OTHERS: Final = 4
PAUSE: Final = 0.1  # between two transactions of one of the others
AGAIN: Final = 1.0
MOST_GROWTH_MB: Final = 50
START: Final = b"POST /predict HTTP/1.1\r\nHost: a\r\n"
LINE: Final = b"X: " + b"a" * 1_000_000 + b"\r\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a client sends on a connection, and how long it waits after each part."""

    parts: Callable[[], Iterator[bytes]]
    pause: float = 0.0


def endless(first: bytes, then: bytes) -> Iterator[bytes]:
    yield first
    while True:
        yield then


FORM: Final = b"POST /auth/token HTTP/1.1\r\nHost: a\r\nContent-Length: 16000\r\n\r\n"
PAGES: Final = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 200
KINDS: Final = {
    "300 header lines of 1 MB": Kind(lambda: iter([START + LINE, *[LINE] * 299])),
    "a header line each second": Kind(lambda: endless(START, b"X: a\r\n"), 1.0),
    "60 KB of a head": Kind(lambda: iter([START + b"X: " + b"a" * 60_000])),
    "a length and then no byte": Kind(lambda: iter([START + b"Content-Length: 1000\r\n\r\n"])),
    "15 KB of a form": Kind(lambda: iter([FORM + b"a" * 15_000])),
    "nothing": Kind(lambda: iter([])),
    "answers never read": Kind(lambda: iter([PAGES]), 3600),
}


@dataclass
class Seen:
    """What one kind did."""

    latencies: list[float] = field(default_factory=list)
    most_rss: int = 0
    closed: Counter[str] = field(default_factory=Counter)  # by the answer's status


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=500)
    options = parser.parse_args()
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    from config.parameters import read_yaml  # noqa: PLC0415

    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    with running(contract) as servers:
        asyncio.run(_serve_others(servers.api, 3))
        rows = [measure(servers.api, "none", Kind(lambda: iter([])), 0, options.seconds)]
        rows += [
            measure(servers.api, name, kind, options.clients, options.seconds) for name, kind in KINDS.items()
        ]
    print(json.dumps(rows))
    if any(row["growth_mb"] >= MOST_GROWTH_MB for row in rows):
        sys.exit(f"the memory grew by {MOST_GROWTH_MB} MB or more")


def measure(api: ApiServer, name: str, kind: Kind, clients: int, seconds: float) -> dict[str, Any]:
    assert api.process is not None
    process = psutil.Process(api.process.pid)
    before = process.memory_info().rss
    seen = asyncio.run(_bother(api, process, kind, clients, seconds))
    p50, p99, most = np.percentile(np.array(seen.latencies) * 1000, [50, 99, 100])
    row = {
        "kind": name,
        "answered": len(seen.latencies),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "max_ms": round(float(most), 1),
        "growth_mb": round((seen.most_rss - before) / 1e6, 1),
        "closed": dict(seen.closed),
    }
    print(f"| {name} | " + " | ".join(str(value) for value in list(row.values())[1:]) + " |", flush=True)
    return row


async def _bother(api: ApiServer, process: psutil.Process, kind: Kind, clients: int, seconds: float) -> Seen:
    seen = Seen()
    async with (
        _background(_client(api.port, kind, seen) for _ in range(clients)),
        _background([_watch(process, seen)]),
    ):
        seen.latencies = await _serve_others(api, seconds)
    return seen


@asynccontextmanager
async def _background(coroutines: Any) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(process: psutil.Process, seen: Seen) -> None:
    while True:
        seen.most_rss = max(seen.most_rss, process.memory_info().rss)
        await asyncio.sleep(0.2)


async def _client(port: int, kind: Kind, seen: Seen) -> None:
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            with suppress(OSError):
                await _send(writer, kind)
            seen.closed[await _status(reader)] += 1
            writer.transport.abort()
        await asyncio.sleep(AGAIN)


async def _send(writer: asyncio.StreamWriter, kind: Kind) -> None:
    for part in kind.parts():
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(kind.pause)


async def _status(reader: asyncio.StreamReader) -> str:
    """Of the answer, once the server has closed."""
    first = b""
    with suppress(OSError):
        while part := await reader.read(1024):
            first = first or part
    return first[9:12].decode() or "none"


async def _serve_others(api: ApiServer, seconds: float) -> list[float]:
    """Latencies of the others' transactions, in seconds; ends the program where one is not answered."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {api.token()}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    bodies = unused_bodies()
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        while time.perf_counter() < end:
            # Each on a connection of its own: a bad client must not keep them from being accepted either.
            body = next(bodies)
            sent = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            await asyncio.wait_for(answer(reader), 30)
            latencies.append(time.perf_counter() - sent)
            writer.close()
            await asyncio.sleep(PAUSE)

    await asyncio.gather(*(one() for _ in range(OTHERS)))
    return latencies


if __name__ == "__main__":
    main()
