"""500 hostile clients: the growth of the API's memory, and the latency of `/predict` for other clients.

    ./fraud bench slow_clients [--seconds 60] [--clients 500]

Starts its own durable servers. Each kind of client runs for that time, while four other clients send
ten transactions a second each, every one on a new connection. A hostile client reconnects a second after the
server has closed its connection. Fails if the memory grows by 50 MB, or if a transaction of the other clients
is not answered. Prints a table and, as the last line, JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from tests.benchmarks.http_load import unused_bodies
from tests.benchmarks.servers import running
from tests.support.api_server import ApiServer

NOBODY: Final = "none"
OTHERS: Final = 4
PAUSE: Final = 0.1  # seconds between two transactions of an ordinary client
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
    NOBODY: Kind(lambda: iter([])),
    "300 header lines of 1 MB": Kind(lambda: iter([START + LINE, *[LINE] * 299])),
    "a header line each second": Kind(lambda: endless(START, b"X: a\r\n"), 1.0),
    "60 KB of a head": Kind(lambda: iter([START + b"X: " + b"a" * 60_000])),
    "a length and then no byte": Kind(lambda: iter([START + b"Content-Length: 1000\r\n\r\n"])),
    "15 KB of a form": Kind(lambda: iter([FORM + b"a" * 15_000])),
    "nothing": Kind(lambda: iter([])),
    "answers never read": Kind(lambda: iter([PAGES]), 3600),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=500)
    if sys.argv[1:2] == ["bother"]:
        asyncio.run(_bother(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], int(sys.argv[5])))
        sys.exit("a client has ended")
    options = parser.parse_args()
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    from config.parameters import read_yaml  # noqa: PLC0415

    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    with running(contract) as servers:
        asyncio.run(_serve_others(servers.api, 3))
        rows = [
            measure(servers.api, name, 0 if name == NOBODY else options.clients, options.seconds)
            for name in KINDS
        ]
    print(json.dumps(rows))
    if any(row["growth_mb"] >= MOST_GROWTH_MB for row in rows):
        sys.exit(f"the memory grew by {MOST_GROWTH_MB} MB or more")


def measure(api: ApiServer, name: str, clients: int, seconds: float) -> dict[str, Any]:
    assert api.process is not None
    process = psutil.Process(api.process.pid)
    before = process.memory_info().rss
    with _bad_clients(api.port, name, clients) as closed:
        latencies, most = asyncio.run(_others_and_memory(api, process, seconds))
        ended = closed()
    p50, p99, slowest = np.percentile(np.array(latencies) * 1000, [50, 99, 100])
    row = {
        "kind": name,
        "answered": len(latencies),
        "p50_ms": round(float(p50)),
        "p99_ms": round(float(p99)),
        "max_ms": round(float(slowest)),
        "growth_mb": round((most - before) / 1e6, 1),
        "closed": ended,
    }
    print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
    return row


@contextmanager
def _bad_clients(port: int, name: str, clients: int) -> Iterator[Callable[[], dict[str, int]]]:
    """Run the hostile clients in a separate process; yields the closed connections by response status."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "closed.json"
        command = [sys.executable, __file__, "bother", str(report), str(port), name, str(clients)]
        process = subprocess.Popen(command)
        while not report.exists():
            assert process.poll() is None
            time.sleep(0.1)

        def closed() -> dict[str, int]:
            assert process.poll() is None, "the hostile clients have ended early"
            counted: dict[str, int] = json.loads(report.read_bytes())
            return counted

        try:
            yield closed
        finally:
            process.terminate()
            process.wait()


async def _bother(report: Path, port: int, name: str, clients: int) -> None:
    closed: Counter[str] = Counter()
    partial = report.with_suffix(".partial")
    tasks = [asyncio.create_task(_client(port, KINDS[name], closed)) for _ in range(clients)]
    while not any(task.done() for task in tasks):
        partial.write_text(json.dumps(closed))
        partial.replace(report)
        await asyncio.sleep(1)


async def _others_and_memory(
    api: ApiServer, process: psutil.Process, seconds: float
) -> tuple[list[float], int]:
    """Latencies in seconds, and the most memory of the API in bytes."""
    others = asyncio.create_task(_serve_others(api, seconds))
    most = 0
    while not others.done():
        most = max(most, process.memory_info().rss)
        await asyncio.wait([others], timeout=0.2)
    return others.result(), most


async def _client(port: int, kind: Kind, closed: Counter[str]) -> None:
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            with suppress(OSError):
                await _send(writer, kind)
            closed[await _status(reader)] += 1
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
            # A new connection for each, because hostile clients must not prevent new connections either.
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


async def answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200") or b'"replayed":false' not in body:
        raise SystemExit(f"not answered: {head!r} {body!r}")


if __name__ == "__main__":
    main()
