"""Single calls of `/predict`, each stored before it is answered: grouped commits against a commit a request.

    ./fraud bench predict [--seconds 4] [--connections 1,16,64] [--repeat 4]

Starts its own durable Postgres and two API processes, which take turns; the second may store one request a
transaction. Every answer is checked, and the rows are counted afterwards. Prints a table and, as the last
line, JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg2

from config.settings import CONFIG_DIR
from fraud_core.contract import Contract
from tests.benchmarks.servers import Servers, running, vacuum
from tests.support.api_server import ApiServer

WARM_UP = 1.0  # seconds before a measurement
BODIES = 64  # different transactions, each sent repeatedly under new ids


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one measurement: seconds for each response, and the total duration."""

    latencies: list[float]
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--repeat", type=int, default=4, help="measurements of each kind; the fastest counts")
    parser.add_argument("part", nargs="?", choices=["serve"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part == "serve":
        serve_alone()
    else:
        compare(options.seconds, [int(count) for count in options.connections.split(",")], options.repeat)


def compare(seconds: float, connections: Sequence[int], repeat: int) -> None:
    os.environ["FRAUD_CONTRACT"] = "creditcard"
    from config.parameters import read_yaml  # noqa: PLC0415

    contract = Contract.from_mapping(read_yaml(CONFIG_DIR / "contracts" / "creditcard.yaml"))
    runs = []
    with running(contract) as servers:
        kinds = {"grouped": servers.api, "a commit a request": alone(servers)}
        kinds["a commit a request"].start()
        try:
            turns = itertools.product(connections, range(repeat), kinds.items())
            for count, _, (kind, server) in turns:
                vacuum(servers.stack.postgres.url())
                runs.append(measure(kind, server, count, seconds))
                print(line(runs[-1]), flush=True)
        finally:
            kinds["a commit a request"].stop()
        check(servers, runs)
    report(runs)


def serve_alone() -> None:
    """The service, changed so that no two requests share a database transaction."""
    from fraud_api import writer  # noqa: PLC0415
    from fraud_api.server import serve  # noqa: PLC0415

    writer.MAX_ROWS = 1  # type: ignore[misc]
    serve()


def alone(servers: Servers) -> ApiServer:
    api = servers.api
    log = api.log.with_name("alone.log")
    return ApiServer(api.database_url, api.cache, log, module="tests.benchmarks.predict")


def measure(kind: str, server: ApiServer, connections: int, seconds: float) -> dict[str, Any]:
    warm_up = asyncio.run(drive(server, connections, WARM_UP))
    commits, rows = writer_metrics(server)
    load = asyncio.run(drive(server, connections, seconds))
    after = writer_metrics(server)
    p50, p99 = np.percentile(np.array(load.latencies) * 1000, [50, 99])
    return {
        "kind": kind,
        "connections": connections,
        "answered": len(load.latencies),
        "warm_up": len(warm_up.latencies),
        "per_second": round(len(load.latencies) / load.seconds),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "requests_per_commit": round((after[1] - rows) / (after[0] - commits), 2),
    }


def writer_metrics(server: ApiServer) -> tuple[float, float]:
    return server.metric("fraud_api_writer_rows_count"), server.metric("fraud_api_writer_rows_sum")


async def drive(server: ApiServer, connections: int, seconds: float) -> Load:
    """Every connection sends the next request as soon as it has its answer."""
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token()}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()
    bodies = unused_bodies()
    latencies: list[float] = []
    started = time.perf_counter()

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        while (sent := time.perf_counter()) < started + seconds:
            body = next(bodies)
            writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
            await answer(reader)
            latencies.append(time.perf_counter() - sent)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return Load(latencies, time.perf_counter() - started)


async def answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    if not head.startswith(b"http/1.1 200") or b'"replayed":false' not in body:
        raise SystemExit(f"not answered: {head!r} {body!r}")


def unused_bodies() -> Iterator[bytes]:
    source = random.Random(1)
    salt = random.SystemRandom().getrandbits(64)
    records = [
        {
            "time": round(source.uniform(0, 3e7), 2),
            "amount": round(source.lognormvariate(3, 1), 2),
            **{f"v{i}": round(source.gauss(0, 1.5), 6) for i in range(1, 29)},
        }
        for _ in range(BODIES)
    ]
    rests = [json.dumps(record)[1:].encode() for record in records]
    number = 0
    while True:
        number += 1
        yield b'{"transaction_id": "%016x-%d", ' % (salt, number) + rests[number % BODIES]


def check(servers: Servers, runs: list[dict[str, Any]]) -> None:
    """Assert that every response, including those of the warm-up, has a row."""
    url = servers.stack.postgres.url(database="benchmark_api")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM predictions WHERE deciding")
        row = cursor.fetchone()
    answered = sum(run["answered"] + run["warm_up"] for run in runs)
    if row != (answered,):
        raise SystemExit(f"{answered} were answered, but {row} are stored")


def line(run: dict[str, Any]) -> str:
    return (
        f"{run['connections']:3} connections, {run['kind']:18}: {run['per_second']:5} requests/s, "
        f"p50 {run['p50_ms']:.2f} ms, p99 {run['p99_ms']:.2f} ms, "
        f"{run['requests_per_commit']:.1f} requests a commit"
    )


def report(runs: list[dict[str, Any]]) -> None:
    best: dict[tuple[int, str], dict[str, Any]] = {}
    for run in runs:
        key = (run["connections"], run["kind"])
        if key not in best or run["per_second"] > best[key]["per_second"]:
            best[key] = run
    ratios = {
        connections: round(run["per_second"] / best[connections, "a commit a request"]["per_second"], 2)
        for (connections, kind), run in best.items()
        if kind == "grouped"
    }
    for connections, ratio in ratios.items():
        print(f"{connections} connections: grouped commits answer {ratio} times as many requests")
    print(json.dumps({"ratios": ratios, "runs": runs}))


if __name__ == "__main__":
    main()
