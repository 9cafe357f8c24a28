"""Single calls of `/predict`, each stored before it is answered, beside what FastAPI does by hand.

    ./fraud bench predict [--seconds 3] [--connections 1,16,64] [--rate 200] [--repeat 5] [--quick]

Starts its own durable Postgres and three servers, which take turns: the API; a small FastAPI application with
the same Pydantic model, the same ONNX model and two prepared INSERTs with a commit a request; and one that
only validates. What is measured has one core, what sends requests another, Postgres both. Besides as many
requests as are answered, a steady number a second, by the clock. Every answer is checked, and the rows are
counted afterwards.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import psutil
import psycopg2

from tests.benchmarks import cores, http_load, machine, rounds
from tests.benchmarks.alone import measure_alone
from tests.benchmarks.fastapi_floor import serving
from tests.benchmarks.http_load import Load, Target
from tests.benchmarks.meter import cpu_seconds
from tests.benchmarks.rounds import Run, median, spread
from tests.benchmarks.servers import Servers, vacuum

QUICK: Final = {"seconds": 0.6, "repeat": 2}
WARM_UP_SHARE: Final = 0.3  # of a measurement's length, before each; its answers are checked, but not counted
API, FLOOR, VALIDATING = "the API", "FastAPI that stores", "FastAPI that validates"
BUSY: Final = 0.9  # of its core: from there on the generator may be what limits


@dataclass(slots=True)
class Server:
    """One of those that take turns."""

    kind: str
    pid: int
    target: Target
    database_url: str | None  # where its rows are; None if it stores nothing
    rows_before: int = 0
    answered: int = 0


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = rounds.parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second of the steady load")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of each kind")
    return rounds.parsed(parser, arguments, QUICK)


def main() -> None:
    measure_alone(run, options(sys.argv[1:]))


def run(servers: Servers, chosen: argparse.Namespace) -> dict[str, Any]:
    """All measurements; prints them and a table, and gives them."""
    runs: list[Run] = []
    with taking_turns(servers) as turns:
        for _, connections in itertools.product(range(chosen.repeat), rounds.numbers(chosen.connections)):
            for server in turns:
                runs.append(as_fast_as_answered(servers, server, connections, chosen.seconds))
                print(line(runs[-1]), flush=True)
        for _ in range(chosen.repeat):
            for server in turns:
                if server.database_url is not None:
                    runs.append(by_the_clock(servers, server, chosen.rate, chosen.seconds))
                    print(line(runs[-1]), flush=True)
        check(turns)
    text, ratios = report(runs)
    print(f"\n{text}")
    return {"runs": runs, "ratios": ratios, "load": machine.load()}


@contextmanager
def taking_turns(servers: Servers) -> Iterator[list[Server]]:
    """The three servers, each on the measured core."""
    url = servers.database("predict_floor")
    admin = servers.stack.postgres.url
    log = servers.api.log
    with ExitStack() as until_the_end:
        storing = until_the_end.enter_context(
            serving("storing", servers.model, url, log.with_name("storing.log"))
        )
        validating = until_the_end.enter_context(
            serving("validating", servers.model, url, log.with_name("validating.log"))
        )
        head = http_load.head("/predict", servers.api.token())

        def target(port: int, sign: bytes) -> Target:
            return Target(port, head, http_load.unused_bodies(), lambda body: sign in body)

        floor_rows = admin(database=url.rpartition("/")[2])
        api, api_rows = servers.api.port, admin(database="benchmark_api")
        turns = [
            Server(API, servers.pids["api"], target(api, b'"replayed":false'), api_rows),
            Server(FLOOR, storing.pid, target(storing.port, b'"score":'), floor_rows),
            Server(VALIDATING, validating.pid, target(validating.port, b'"transaction_id":'), None),
        ]
        for server in turns:
            server.rows_before = rows(server)
            until_the_end.enter_context(cores.pinned(server.pid, cores.MEASURED))
        yield turns


def as_fast_as_answered(servers: Servers, server: Server, connections: int, seconds: float) -> Run:
    """Each connection sends its next request when the last is answered."""

    def generate(length: float) -> Load:
        return http_load.closed_loop(server.target, connections, length)

    return measure(servers, server, generate, seconds) | {"connections": connections}


def by_the_clock(servers: Servers, server: Server, rate: float, seconds: float) -> Run:
    """So many requests a second, answered or not."""

    def generate(length: float) -> Load:
        return http_load.steady(server.target, rate, length)

    return measure(servers, server, generate, seconds) | {"rate": rate}


def measure(servers: Servers, server: Server, generate: Callable[[float], Load], seconds: float) -> Run:
    """Figures of one load, after a warm-up by the same generator, which takes the seconds it lasts."""
    vacuum(servers.stack.postgres.url())
    with cores.on_core(cores.GENERATOR):
        warm_up = generate(seconds * WARM_UP_SHARE)
        before = spent(servers, server)
        load = generate(seconds)
        after = spent(servers, server)
    server.answered += len(warm_up.latencies) + len(load.latencies)
    return figures(server, load, before, after)


def spent(servers: Servers, server: Server) -> tuple[float, float]:
    """Processor seconds so far, of the server and of Postgres."""
    own, postgres = (psutil.Process(pid) for pid in (server.pid, servers.pids["postgres"]))
    return cpu_seconds(own), cpu_seconds(postgres)


def figures(server: Server, load: Load, before: tuple[float, float], after: tuple[float, float]) -> Run:
    answered = len(load.latencies)
    p50, p99 = np.percentile(np.array(load.latencies) * 1000, [50, 99])
    own, postgres = ((late - early) * 1000 / answered for early, late in zip(before, after, strict=True))
    return {
        "kind": server.kind,
        "answered": answered,
        "per_second": round(answered / load.seconds, 1),
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "cpu_ms": round(own, 3),
        "postgres_cpu_ms": round(postgres, 3),
        "generator_busy": round(load.cpu / load.seconds, 2),
    }


def check(turns: Sequence[Server]) -> None:
    """Every answer, those of the warming up included, is a row."""
    for server in turns:
        stored = rows(server) - server.rows_before
        if server.database_url is not None and stored != server.answered:
            raise SystemExit(f"{server.kind}: {server.answered} were answered, but {stored} are stored")


def rows(server: Server) -> int:
    if server.database_url is None:
        return 0
    with closing(psycopg2.connect(server.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM predictions WHERE deciding")
        row: Any = cursor.fetchone()
    return int(row[0])


def line(run: Run) -> str:
    what = f"{run['connections']:3} connections" if "connections" in run else f"{run['rate']:3.0f} a second  "
    limit = "  THE GENERATOR LIMITS" if run["generator_busy"] > BUSY else ""
    return (
        f"{what}, {run['kind']:22}: {run['per_second']:6.0f} requests/s, "
        f"p50 {run['p50_ms']:6.2f} ms, p99 {run['p99_ms']:6.2f} ms, "
        f"CPU {run['cpu_ms']:.2f} + {run['postgres_cpu_ms']:.2f} ms{limit}"
    )


def report(runs: list[Run]) -> tuple[str, dict[str, Any]]:
    """A table of medians, and the ratios to the floors."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        load = str(run["connections"]) if "connections" in run else f"{run['rate']:.0f} a second"
        groups.setdefault((load, run["kind"]), []).append(run)
    head = ["connections", "server", "requests/s", "p50 ms", "p99 ms", "its CPU ms a request"]
    head += ["Postgres CPU ms a request", "generator busy"]
    table = [
        [
            *(load, kind, spread(run["per_second"] for run in own)),
            *(spread((run[name] for run in own), 2) for name in ("p50_ms", "p99_ms")),
            *(f"{median(own, name):.2f}" for name in ("cpu_ms", "postgres_cpu_ms", "generator_busy")),
        ]
        for (load, kind), own in groups.items()
    ]
    ratios = {}
    for (load, kind), own in groups.items():
        if kind != API:
            continue
        ratios[load] = {
            f"{figure} to {other}": round(median(own, figure) / median(groups[load, other], figure), 2)
            for figure in ("per_second", "p50_ms", "cpu_ms")
            for other in (FLOOR, VALIDATING)
            if (load, other) in groups
        }
    lines = [
        f"{load}: {', '.join(f'{name} {value}' for name, value in ratio.items())}"
        for load, ratio in ratios.items()
    ]
    return machine.table(head, table) + "\n\n" + "\n".join(lines), ratios


if __name__ == "__main__":
    main()
